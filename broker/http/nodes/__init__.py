"""The state of this node, of the other workers of this machine, and of the other nodes."""
