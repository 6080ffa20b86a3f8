"""Sessions: the permissions, limits and rooms of a connection, and its heartbeat."""
