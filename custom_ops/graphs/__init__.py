"""Models rewritten, node by node: without functions and back, over time, for the native library."""
