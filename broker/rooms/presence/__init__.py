"""Who is in a room, on this node and on the others."""
