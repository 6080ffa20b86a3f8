"""The durable engine of a single server: one SQLite file."""
