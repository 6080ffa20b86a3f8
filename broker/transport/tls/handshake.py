"""The server's side of a TLS handshake: with a time limit, and with a reason where it fails."""

import re
import ssl

import trio

from broker.errors import RefusalReason
from broker.transport.byte_stream import ByteStream
from broker.transport.tls.stream import RECORD_BYTES, TlsBuffers, TlsByteStream

HANDSHAKE_RECORD = 0x16
"""The first byte of a client's hello (RFC 8446 section 5.1)."""

SPEAKS_TLS = b"this port speaks TLS: use https:// or wss://\n"

_HTTP_METHOD = re.compile(rb"[A-Z]{3,16} ")
_IN_THE_CLEAR = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b"
) % (len(SPEAKS_TLS), SPEAKS_TLS)

_OF_VERSION = ("UNSUPPORTED_PROTOCOL", "WRONG_VERSION_NUMBER", "VERSION_TOO_LOW", "PROTOCOL_VERSION")
_OF_CHOICE = ("NO_SHARED_CIPHER", "NO_SUITABLE", "NO_SHARED_GROUP", "INSUFFICIENT_SECURITY")
_OF_CLIENT = ("CERTIFICATE_VERIFY_FAILED", "NO_CERTIFICATE")
_ALERT = "_ALERT_"


class HandshakeFailedError(Exception):
    """The peer has not shaken hands; `answer` is all that can still be sent, empty for nothing."""

    def __init__(self, why: RefusalReason, detail: str, answer: bytes = b"") -> None:
        super().__init__(detail)
        self.why = why
        self.answer = answer


async def shake_hands(
    stream: ByteStream, context: ssl.SSLContext, buffers: TlsBuffers, *, timeout_seconds: float
) -> TlsByteStream | None:
    """Shake hands over `stream`; None if the peer has closed it without a word.

    If cancelled, the stream is left as it is.

    :raises HandshakeFailedError: if the peer speaks no TLS, none that we speak, or not in time.
    :raises trio.BrokenResourceError: if the connection breaks.
    """
    with trio.move_on_after(timeout_seconds):
        return await _shake_hands(stream, context, buffers)
    raise HandshakeFailedError(RefusalReason.TLS_TIMEOUT, "the TLS handshake took too long")


async def _shake_hands(
    stream: ByteStream, context: ssl.SSLContext, buffers: TlsBuffers
) -> TlsByteStream | None:
    received = bytes(await stream.receive_some(RECORD_BYTES))
    if not received:
        return None
    if received[0] != HANDSHAKE_RECORD:
        is_http = _HTTP_METHOD.match(received) is not None
        raise HandshakeFailedError(
            RefusalReason.TLS_PLAIN,
            "HTTP without TLS" if is_http else "no TLS",
            _IN_THE_CLEAR if is_http else b"",
        )
    tls = context.wrap_bio(buffers.incoming, buffers.outgoing, server_side=True)
    while True:
        answer, is_done = _step(tls, buffers, received)
        if is_done:
            # At once: other bytes may be behind the handshake, and the buffers are those of all connections.
            secured = TlsByteStream(stream, tls, buffers, unsent=answer)
            await secured.send_all(b"")
            return secured
        if answer:
            await stream.send_all(answer)
        received = bytes(await stream.receive_some(RECORD_BYTES))
        if not received:
            raise HandshakeFailedError(RefusalReason.TLS_BROKEN, "the peer went away amid the TLS handshake")


def _step(tls: ssl.SSLObject, buffers: TlsBuffers, received: bytes) -> tuple[bytes, bool]:
    """Take what was received; returns what is to be sent, and whether the handshake is done.

    :raises HandshakeFailedError: if it cannot be.
    """
    buffers.incoming.write(received)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return buffers.outgoing.read(), False
    except ssl.SSLError as error:
        alert = buffers.outgoing.read()
        buffers.clear()
        reason = str(error.reason or "")
        raise HandshakeFailedError(_why(reason), reason.lower().replace("_", " "), alert) from error
    return buffers.outgoing.read(), True


def _why(reason: str) -> RefusalReason:
    """Return the reason for metrics and log, given OpenSSL's."""
    if any(part in reason for part in _OF_VERSION):
        return RefusalReason.TLS_VERSION
    if any(part in reason for part in _OF_CHOICE):
        return RefusalReason.TLS_CIPHERS
    if any(part in reason for part in _OF_CLIENT):
        return RefusalReason.TLS_CLIENT_CERTIFICATE
    return RefusalReason.TLS_NOT_TRUSTED if _ALERT in reason else RefusalReason.TLS_BROKEN
