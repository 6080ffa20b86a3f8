"""Where events are kept and get their place in a room's order."""
