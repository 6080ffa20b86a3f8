"""Sessions: what one connection may do, which rooms it is in, and when it has to end."""
