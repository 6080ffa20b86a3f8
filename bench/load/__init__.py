"""The loads: a generator in C, a process of its own, and clients in Python where the server is the slower side."""
