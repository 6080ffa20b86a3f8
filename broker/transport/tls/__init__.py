"""TLS on the port: the certificate and its renewal, the handshake, and the stream behind it."""
