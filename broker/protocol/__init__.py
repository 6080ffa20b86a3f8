"""The native protocol, without I/O: commands in, encoded notices out."""
