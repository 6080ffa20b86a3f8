"""How this node, the other workers of this machine and the other nodes are."""
