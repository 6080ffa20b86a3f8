"""Sockets: one port, the WebSocket protocol (RFC 6455), and what waits to be written."""
