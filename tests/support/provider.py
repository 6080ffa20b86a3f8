"""An OpenID Connect provider: keys, tokens, and a local HTTP server that publishes the keys, on a port of the kernel's."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import jwt
import trio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

NEVER = 4_000_000_000
"""An expiry in the year 2096."""


@attrs.frozen
class SigningKey:
    """A private key with its id."""

    kid: str
    algorithm: str
    private: Any

    @classmethod
    def make(cls, kid: str, algorithm: str = "ES256") -> "SigningKey":
        private: Any
        if algorithm == "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
        else:
            private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return cls(kid, algorithm, private)

    def jwk(self, **changed: Any) -> dict[str, Any]:
        """Return the public key as providers publish it; a member that is changed to None is left out."""
        kind = ECAlgorithm if self.algorithm == "ES256" else RSAAlgorithm
        public = kind.to_jwk(self.private.public_key(), as_dict=True)
        whole = public | {"kid": self.kid, "use": "sig", "alg": self.algorithm} | changed
        return {name: value for name, value in whole.items() if value is not None}

    def token(self, claims: dict[str, Any], **header: Any) -> str:
        headers = {"kid": self.kid, **header}
        return jwt.encode({"exp": NEVER, **claims}, self.private, algorithm=self.algorithm, headers=headers)


Answer = Callable[[trio.SocketStream], Any]


def answer(body: Any, status: int = 200, **headers: str) -> bytes:
    """Return an HTTP response; names of headers are written with underscores."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(content)}",
        "Connection: close",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


@attrs.define
class Provider:
    """What is served, by path, and the paths that were asked for. None hangs."""

    url: str
    answers: dict[str, bytes | None] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)

    @property
    def issuer(self) -> str:
        return f"{self.url}/realm"

    def publish(self, *keys: SigningKey, **headers: str) -> None:
        """Serve the metadata and the keys."""
        metadata = {"issuer": self.issuer, "jwks_uri": f"{self.url}/keys"}
        self.answers["/realm/.well-known/openid-configuration"] = answer(metadata)
        self.answers["/keys"] = answer({"keys": [key.jwk() for key in keys]}, **headers)

    async def _serve(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some()
            if not data:
                return
            head += data
        path = head.split(b" ")[1].decode()
        self.asked.append(path)
        response = self.answers.get(path, answer({}, 404))
        if response is None:
            await trio.sleep_forever()
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(response)
            await stream.aclose()


@contextlib.asynccontextmanager
async def open_provider() -> AsyncIterator[Provider]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    provider = Provider(f"http://127.0.0.1:{port}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, provider._serve, [listener])
        yield provider
        nursery.cancel_scope.cancel()
