"""Convolutional neural networks: the trials of one training subset train in lockstep."""
