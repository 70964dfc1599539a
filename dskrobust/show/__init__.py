"""What objects, terminals and notebooks display."""
