"""Several server processes on one port, and their supervising parent."""
