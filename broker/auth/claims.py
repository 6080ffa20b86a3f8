"""Reads the claims of a token whose signature is known to be good (RFC 7519 section 4).

Pure: what is refused is raised as `Disconnect` with 4001 and a reason that names the claim, never its value.
"""

import json
from collections.abc import Mapping, Sequence

import attrs

from broker.errors import CloseCode, Disconnect, RefusalReason, Refused
from broker.model import (
    ALL_CAPABILITIES,
    MAX_ROOM_NAME_CHARACTERS,
    PRIVATE_PREFIX,
    Capability,
    Claims,
    check_room_name,
    is_dot_segment,
    room_name_limit,
)
from broker.portable_json import has_number_out_of_range

MAX_TOKEN_CHARACTERS = 8192
MAX_ROOM_PATTERNS = 256
MAX_JTI_CHARACTERS = 512

# The last whole number that JSON readers agree on (RFC 8259 section 6).
_LAST_NUMBER = 2.0**53

# The last second of the year 9999, the latest date of most libraries ("never"). As milliseconds it is in January 1978, so
# whoever writes milliseconds of today, or smaller units, is above it.
LAST_SECOND = 253_402_300_799.0


@attrs.frozen
class ClaimNames:
    """The claims in which an issuer says who a user is, and what the user may do."""

    user: str = "sub"
    rooms: str = "rooms"
    can: str = "can"


def with_usual_names(payload: Mapping[str, object], names: ClaimNames) -> Mapping[str, object]:
    """Return `payload` with the named claims as `sub`, `rooms` and `can`; its own claims of those names are dropped.

    A name is that of a claim as it stands, such as `https://app.example/rooms`; else `a.b` is `b` in the object `a`.
    """
    if names == USUAL_NAMES:
        return payload
    usual = {name: value for name, value in payload.items() if name not in {"sub", "rooms", "can"}}
    for name, asked in (("sub", names.user), ("rooms", names.rooms), ("can", names.can)):
        value = _find(payload, asked)
        if value is not _MISSING:
            usual[name] = value
    return usual


def _find(payload: Mapping[str, object], name: str) -> object:
    if name in payload:
        return payload[name]
    value: object = payload
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


USUAL_NAMES = ClaimNames()
_MISSING = object()


def check_authorized_party(payload: Mapping[str, object], parties: Sequence[str]) -> None:
    """Check that `azp` (OpenID Connect Core 1.0, section 2) is one of `parties`, if there are any.

    :raises Disconnect: 4001 if it is missing or another.
    """
    if parties and payload.get("azp") not in parties:
        raise unauthorized("token is for another party (azp)", RefusalReason.TOKEN_AUDIENCE)


def parse_claims(payload: Mapping[str, object], *, info_bytes: int = MAX_TOKEN_CHARACTERS) -> Claims:
    """Return what the token says of its bearer; its `info` has at most `info_bytes` as JSON.

    :raises Disconnect: 4001 if `sub` is missing or a claim has the wrong shape.
    """
    return Claims(
        user_id=_user_id(payload),
        expires_at=_seconds(payload, "exp"),
        rooms=_rooms(payload),
        can=_capabilities(payload),
        # A claim of this name in an application's own sense hides nobody and is refused to nobody.
        hidden=payload.get("hidden") is True,
        info=_info(payload.get("info"), info_bytes),
        auto_join=_auto_join(payload.get("auto_join", [])),
        token_id=_token_id(payload),
        issued_at=_issued_at(payload),
    )


def with_payload(claims: Claims, payload: Mapping[str, object]) -> Claims:
    """Return `claims` with all claims of their token, which a hook is told.

    :raises Disconnect: 4001 if these cannot be written as JSON: NaN and infinities, which readers of a token let in.
    """
    try:
        json.dumps(payload, allow_nan=False)
    except (ValueError, RecursionError):
        raise unauthorized("token has a claim that is not JSON") from None
    return attrs.evolve(claims, payload=payload)


def check_times(payload: Mapping[str, object], *, now: float, leeway_seconds: float) -> None:
    """Check `exp` and `nbf` (RFC 7519 sections 4.1.4 and 4.1.5); `iat` decides here nothing.

    A token is good while nbf - leeway <= now < exp + leeway.

    :raises Disconnect: 4001 if it is not, or either is no number.
    """
    expires_at = _seconds(payload, "exp")
    if expires_at is not None and now >= expires_at + leeway_seconds:
        raise unauthorized("token has expired (exp)", RefusalReason.TOKEN_EXPIRED)
    begins_at = _seconds(payload, "nbf")
    if begins_at is not None and now < begins_at - leeway_seconds:
        raise unauthorized("token is not valid yet (nbf)", RefusalReason.TOKEN_NOT_YET_VALID)


def check_audience(payload: Mapping[str, object], audience: str | None) -> None:
    """Check that `aud`, a string or a list of strings, names `audience`.

    With no audience of our own, a token that has one is for somebody else (RFC 7519 section 4.1.3).

    :raises Disconnect: 4001 if it is missing, malformed or names others.
    """
    if "aud" not in payload:
        if audience is not None:
            raise unauthorized("token has no audience (aud)", RefusalReason.TOKEN_AUDIENCE)
        return
    if audience is None:
        raise unauthorized(
            "token has an audience (aud), but this server has none (auth.audience)",
            RefusalReason.TOKEN_AUDIENCE,
        )
    named = payload["aud"]
    if isinstance(named, str):
        named = [named]
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise unauthorized("claim aud: a string or a list of strings", RefusalReason.TOKEN_AUDIENCE)
    if audience not in named:
        raise unauthorized("token is for another audience (aud)", RefusalReason.TOKEN_AUDIENCE)


def check_issuer(payload: Mapping[str, object], issuer: str | None) -> None:
    """Check `iss` when `issuer` is given (RFC 7519 section 4.1.1).

    :raises Disconnect: 4001 if it is missing or another.
    """
    if issuer is None:
        return
    if "iss" not in payload:
        raise unauthorized("token has no issuer (iss)", RefusalReason.TOKEN_ISSUER)
    if payload["iss"] != issuer:
        raise unauthorized("token is from another issuer (iss)", RefusalReason.TOKEN_ISSUER)


def _user_id(payload: Mapping[str, object]) -> str:
    if "sub" not in payload:
        raise unauthorized("token has no sub claim: it is the user's id")
    value = payload["sub"]
    if (
        not isinstance(value, str)
        or not value
        or is_dot_segment(value)
        or not _fits_room_name(PRIVATE_PREFIX + value)
    ):
        raise unauthorized(
            "claim sub: a string of 1 to 128 characters, none a control character or '/'; not '.' or '..'"
        )
    return value


def _fits_room_name(name: str) -> bool:
    try:
        check_room_name(name)
    except Refused:
        return False
    return True


def _seconds(payload: Mapping[str, object], claim: str) -> float | None:
    if claim not in payload:
        return None
    value = payload[claim]
    is_truth = isinstance(value, bool)
    # NaN, which Python's JSON reader lets in, is in no range.
    if isinstance(value, int | float) and not is_truth and -_LAST_NUMBER <= value <= _LAST_NUMBER:
        if value > LAST_SECOND:
            raise unauthorized(
                f"claim {claim}: a number of seconds since 1970; this looks like milliseconds (RFC 7519 section 2)"
            )
        return float(value)
    raise unauthorized(f"claim {claim}: a number of seconds since 1970")


def _token_id(payload: Mapping[str, object]) -> str | None:
    """Return `jti` (RFC 7519 section 4.1.7); a number counts as its digits. Another value, and a longer one, names no token."""
    value = payload.get("jti")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) <= _LAST_NUMBER else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_JTI_CHARACTERS else None


def _issued_at(payload: Mapping[str, object]) -> float | None:
    """Return `iat` (RFC 7519 section 4.1.6), as it decides whether a token was taken back; None if it is no time."""
    try:
        return _seconds(payload, "iat")
    except Disconnect:
        return None


def _rooms(payload: Mapping[str, object]) -> tuple[str, ...] | None:
    if "rooms" not in payload:
        return None
    value = payload["rooms"]
    if (
        not isinstance(value, list)
        or len(value) > MAX_ROOM_PATTERNS
        or not all(isinstance(p, str) and 1 <= len(p) <= room_name_limit(p) for p in value)
    ):
        raise unauthorized(
            f"claim rooms: a list of at most {MAX_ROOM_PATTERNS} strings "
            f"of 1 to {MAX_ROOM_NAME_CHARACTERS} characters"
        )
    return tuple(value)


def _auto_join(value: object) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or len(value) > MAX_ROOM_PATTERNS
        or not all(isinstance(name, str) and _fits_room_name(name) for name in value)
    ):
        raise unauthorized(f"claim auto_join: a list of at most {MAX_ROOM_PATTERNS} names of rooms")
    return tuple(value)


def _capabilities(payload: Mapping[str, object]) -> frozenset[Capability]:
    if "can" not in payload:
        return ALL_CAPABILITIES
    value = payload["can"]
    if not isinstance(value, list) or not all(isinstance(c, str) and c in ALL_CAPABILITIES for c in value):
        raise unauthorized(f"claim can: a list out of {', '.join(Capability)}")
    return frozenset(Capability(c) for c in value)


def _info(value: object, most_bytes: int) -> bytes | None:
    if value is None:
        return None
    try:
        # Readers of a token may let in NaN, infinities and halves of surrogate pairs; other clients cannot read them.
        packed = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        packed = None
    if packed is None or has_number_out_of_range(packed):
        raise unauthorized(
            "claim info: JSON of Unicode strings, and of numbers that are 64-bit integers or within the range of a double"
        )
    if len(packed) > most_bytes:
        raise unauthorized(f"claim info: at most {most_bytes} bytes of JSON (auth.info_bytes)")
    return packed


def unauthorized(reason: str, why: RefusalReason = RefusalReason.TOKEN_CLAIM) -> Disconnect:
    """Return the refusal of a token."""
    return Disconnect(CloseCode.UNAUTHORIZED, reason, why=why)
