"""Hooks: the application decides who may connect, join, publish and call.

An application verifies the requests of hooks and webhooks in one line, with nothing of the server imported:
`call = verify(request.headers, request.body, SECRET)`.
"""

from broker.signatures import SignatureError, verify

__all__ = ["SignatureError", "verify"]
