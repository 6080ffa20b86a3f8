"""Several server processes on one port, and the small parent that looks after them."""
