"""Hooks: the application decides who may connect, join and publish, and answers calls.

An application verifies the requests of hooks and webhooks in one line, with nothing of the server imported:
`ask = verify(request.headers, request.body, SECRET)`. A program with rooms inside gives `open_broker` a `Hook`.
"""

from typing import TYPE_CHECKING

from broker.lazy_names import lazy_names
from broker.signatures import SignatureError, verify

if TYPE_CHECKING:
    from broker.hooks.own import Hook

__all__ = ["Hook", "SignatureError", "verify"]

__getattr__ = lazy_names(__name__, {"Hook": "broker.hooks.own"})
