"""Traces of publishes: from an HTTP request or a hook through the room to the fan-out. Without them nothing is imported."""
