"""Presence across nodes: leases, and which users each node has in which rooms."""
