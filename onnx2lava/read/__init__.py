"""Read files as networks."""
