"""ASGI applications on connections of our port, served by hypercorn within our limits."""
