"""Runs ASGI applications on connections of our port: what tames hypercorn."""
