"""The engine of several nodes: rooms in one or more Redis (or Valkey) servers, and a feed from them to every node."""
