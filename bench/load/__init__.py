"""The load generator: C, compiled on the spot, a process of its own."""
