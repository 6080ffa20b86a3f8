"""The stage of one case: what the client has done so far, as the script sees it, and the connections that it makes."""

import time
from collections import deque
from collections.abc import Callable
from secrets import token_hex
from typing import TypeVar
from urllib.parse import parse_qs, unquote

import attrs
import msgspec
import trio

from broker.auth.bearer import find_token
from broker.auth.mint import mint_token
from broker.conformance.answers import TOKEN_SECONDS, answer
from broker.conformance.connection import Connection, ViolationError, subprotocol_of
from broker.conformance.lines import Handed, HandedGap, Told, parse_line
from broker.conformance.room import ROOM, USER, Message, PlayedRoom
from broker.conformance.steps import Frames
from broker.errors import Disconnect
from broker.model import Position, parse_offset
from broker.protocol.commands import BadCommandError, Chat, CommandDecoder, Join, Publish, Refresh, Since
from broker.transport.handshake import HandshakeError, answer_handshake, offered_subprotocols
from broker.transport.head import Head, HeadError, read_head, refusal

T = TypeVar("T")

HEAD_BYTES = 65_536
HEAD_SECONDS = 30.0
LINES_BYTES = 4 << 20
TRANSCRIPT_ENTRIES = 40
ENTRY_CHARACTERS = 160


class FailedError(Exception):
    """The client did not do what the script expected."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came


@attrs.define(eq=False)
class Peer:
    """A connection of the client, and its place in the room."""

    connection: Connection
    is_by_address: bool
    """Whether it is to `/ws/{room}`."""
    join: Join | None
    """The join without an answer."""
    is_member: bool = False


@attrs.define(eq=False)
class Stage:
    """Holds what the client has done that the script has not looked at yet. Times are trio's."""

    timeout_seconds: float
    silence_seconds: float
    room: PlayedRoom = attrs.Factory(PlayedRoom)
    peer: Peer | None = None
    """The connection that the script is about."""
    arrivals: deque[Peer] = attrs.Factory(deque)
    requests: deque[Chat | Publish] = attrs.Factory(deque)
    handed: deque[Handed | HandedGap] = attrs.Factory(deque)
    told: list[Told] = attrs.Factory(list)
    seen: Position | None = None
    """The position of the last event that was sent, or of the last `joined`."""
    transcript: deque[str] = attrs.Factory(lambda: deque(maxlen=TRANSCRIPT_ENTRIES))
    ending: str | None = None
    """How the client's program has ended; None while it runs."""
    _violation: str | None = None
    _tokens: list[str] = attrs.Factory(list)
    _expired: int = 0
    """Number of tokens, from the first, that are not accepted any more."""
    _secret: str = attrs.Factory(lambda: token_hex(32))
    _decoder: CommandDecoder = attrs.Factory(CommandDecoder)
    _news: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)
    _began_at: float = attrs.Factory(trio.current_time)

    def make_token(self) -> str:
        """Return a new token, another one each time."""
        seconds = TOKEN_SECONDS + len(self._tokens)
        token = mint_token(
            secret=self._secret, algorithm="HS256", user_id=USER, ttl_seconds=seconds, now=time.time()
        )
        self._tokens.append(token)
        return token

    def expire_tokens(self) -> None:
        """Accept none of the tokens made so far any more."""
        self._expired = len(self._tokens)

    def line(self, text: str) -> None:
        """Handle a line that the client has printed."""
        self.note("client's line", text)
        match parse_line(text):
            case Handed() | HandedGap() as line:
                self.handed.append(line)
            case Told() as line:
                self.told.append(line)
            case None:
                pass
        self._wake()

    def program_ended(self, ending: str) -> None:
        """Note that the client's program has ended."""
        self.ending = ending
        self.note("client's program", ending)
        self._wake()

    def note(self, source: str, text: str) -> None:
        """Add an entry to the transcript."""
        self.transcript.append(f"{trio.current_time() - self._began_at:7.3f} s  {source}: {shorten(text)}")

    async def until(self, find: Callable[[], T | None], expected: str, within_seconds: float) -> T:
        """Wait until `find` returns something.

        :raises FailedError: if the time is over, or if the client has broken the protocol or ended.
        """
        with trio.move_on_after(within_seconds):
            while True:
                if self._violation is not None:
                    raise FailedError("a client of greenroom.v1", self._violation)
                found = find()
                if found is not None:
                    return found
                if self.ending is not None:
                    raise FailedError(expected, f"the end of the client's program ({self.ending})")
                await self._news.park()
        raise FailedError(expected, f"nothing within {within_seconds:g} s")

    async def until_connected(self, find: Callable[[], T | None], expected: str) -> T:
        """Wait until `find` returns something, while the connection that the script is about is open.

        :raises FailedError: as `until`, and if the client has ended the connection.
        """

        def find_on_connection() -> T | None:
            found = find()
            if found is None:
                self.open_peer(expected)
            return found

        return await self.until(find_on_connection, expected, self.timeout_seconds)

    async def send(self, message: Message, frames: Frames = "whole") -> None:
        """Send a message on the connection that the script is about.

        :raises FailedError: if the client has ended it.
        """
        payload = msgspec.json.encode(message)
        peer = self.open_peer(f"an open connection, for {shorten(payload.decode())}")
        self.note("server", payload.decode())
        if "offset" in message:
            self.seen = Position(message["epoch"], message["offset"])
        await peer.connection.send(payload, frames)

    async def close(self, peer: Peer, code: int, reason: str) -> None:
        """Close a connection of the client."""
        self.note("server", f"closes with {int(code)} {reason}")
        await peer.connection.close(code, reason)

    def open_peer(self, expected: str) -> Peer:
        """Return the connection that the script is about.

        :raises FailedError: if the client has ended it.
        """
        if self.peer is None:
            raise FailedError(expected, "no connection")
        if self.peer.connection.ending is not None:
            raise FailedError(expected, f"the end of the connection: {self.peer.connection.ending}")
        return self.peer

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of the client until it ends."""
        async with stream:
            try:
                head = await read_head(stream, max_bytes=HEAD_BYTES, timeout_seconds=HEAD_SECONDS)
                if head is None:
                    return
                if head.is_websocket:
                    await self._serve_websocket(stream, head)
                else:
                    await self._answer_request(stream, head)
            except (ViolationError, HeadError) as error:
                self._violate(str(error))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _answer_request(self, stream: trio.abc.Stream, head: Head) -> None:
        """Answer `GET /token` and `POST /lines`, for pages of any origin."""
        content = b""
        if head.path == "/lines":
            size = min(int(head.header(b"content-length") or 0), LINES_BYTES)
            body = bytearray(head.behind)
            while len(body) < size and (data := await stream.receive_some()):
                body += data
            for text in body.decode(errors="replace").splitlines():
                self.line(text)
        elif head.path == "/token":
            content = self.make_token().encode()
            self.note("client", "GET /token")
        else:
            await stream.send_all(refusal(b"404 Not Found"))
            return
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n"
            b"Access-Control-Allow-Origin: *\r\nCache-Control: no-store\r\n\r\n%b" % (len(content), content)
        )

    async def _serve_websocket(self, stream: trio.abc.Stream, head: Head) -> None:
        peer = self._accept(stream, head)
        is_valid = True
        try:
            response = answer_handshake(head, subprotocol_of(head))
        except HandshakeError as error:
            response, is_valid = error.response, False
        await stream.send_all(response)
        if not is_valid:
            raise ViolationError("an opening handshake that RFC 6455 does not allow")
        self.note("client", f"connects to {head.path}")
        self.arrivals.append(peer)
        self._wake()
        connection = peer.connection
        while (text := await connection.receive(self._wake)) is not None:
            if connection.ending is None and not connection.is_silent:
                await self._handle(peer, text)
        if not connection.is_ended_by_kit:
            self.note("client", f"ends the connection: {connection.ending}")
        self._wake()

    def _accept(self, stream: trio.abc.Stream, head: Head) -> Peer:
        """Check the address and the token of a handshake.

        :raises ViolationError: if a server would not accept them.
        """
        try:
            offered = offered_subprotocols(head)
            token = find_token(query=head.query, headers=head.headers, subprotocols=offered)
        except Disconnect as refused:
            raise ViolationError(refused.reason) from None
        if token not in self._tokens:
            raise ViolationError("no token" if token is None else "a token that is not from the kit")
        if token in self._tokens[: self._expired]:
            raise ViolationError("a token that has expired, where a new one was to be had from /token")
        _, _, room = head.path.removeprefix("/ws").partition("/")
        if not head.path.startswith("/ws") or unquote(room) not in {"", ROOM}:
            raise ViolationError(f"a connection to {head.path}")
        join = Join(room=ROOM, since=_since_of(head)) if room else None
        return Peer(Connection(stream, head), is_by_address=bool(room), join=join)

    async def _handle(self, peer: Peer, text: str) -> None:
        self.note("client", text)
        try:
            command = self._decoder.decode(text)
        except BadCommandError as error:
            raise ViolationError(f"{shorten(text)} ({error.refused})") from None
        room = getattr(command, "room", ROOM) or (ROOM if peer.is_by_address else None)
        if room != ROOM:
            raise ViolationError(f"a request for the room {room!r}")
        match command:
            case Join() if peer.is_member:
                for message in self.room.joined(_position(command.since), command.id, command.last):
                    await self._reply(peer, message)
            case Join():
                peer.join = command
            case Chat() | Publish() if not peer.is_member:
                raise ViolationError(f"{shorten(text)}, before the room was joined")
            case Chat() | Publish():
                self.requests.append(command)
            case Refresh() if command.token not in self._tokens[self._expired :]:
                raise ViolationError("a refresh with a token that is not from the kit, or has expired")
            case _:
                reply = answer(command, self.room, time.time())
                assert reply is not None, "the script answers joins and chats only"
                await self._reply(peer, reply)
        self._wake()

    async def _reply(self, peer: Peer, message: Message) -> None:
        payload = msgspec.json.encode(message)
        self.note("server", payload.decode())
        await peer.connection.send(payload)

    def _violate(self, came: str) -> None:
        self._violation = self._violation or came
        self.note("client", f"violates the protocol: {came}")
        self._wake()

    def _wake(self) -> None:
        self._news.unpark_all()


def shorten(text: str) -> str:
    """Return a text as the report shows it."""
    return text if len(text) <= ENTRY_CHARACTERS else f"{text[:ENTRY_CHARACTERS]}…"


def _position(since: Since | None) -> Position | None:
    return None if since is None else Position(since.epoch, since.offset)


def _since_of(head: Head) -> Since | None:
    """Return the position in the address of a room."""
    fields = parse_qs(head.query)
    offset, epoch = parse_offset(fields.get("offset", [""])[0]), fields.get("epoch", [""])[0]
    return Since(offset, epoch) if offset is not None and epoch else None
