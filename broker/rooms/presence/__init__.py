"""The members of a room, on this node and on the others."""
