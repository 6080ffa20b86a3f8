"""The broker's client, on trio."""
