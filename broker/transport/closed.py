"""How a WebSocket was closed by its peer."""

import attrs

NO_STATUS = 1005
"""The code of a close frame without one (RFC 6455 section 7.1.5)."""

ABNORMAL = 1006
"""The code of an end without a close frame (RFC 6455 section 7.1.5)."""


@attrs.frozen
class Closed:
    """How the peer, or trio-websocket over an invalid frame, has closed."""

    code: int
    reason: str
