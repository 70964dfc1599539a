"""Bounds: from a row's limit to the few pairs that may matter."""
