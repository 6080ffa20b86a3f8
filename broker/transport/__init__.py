"""Sockets: the port, WebSocket connections (RFC 6455), and the queues of what is written to them."""
