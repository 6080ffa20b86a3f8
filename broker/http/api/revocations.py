"""Tokens taken back over HTTP."""

from typing import Annotated, TypeAlias

import attrs
from msgspec import UNSET, Meta
from quart import Blueprint, Response

from broker.auth.api_keys import ADMIN
from broker.auth.revocations import Revocation, RevocationKind
from broker.errors import ErrorCode, Refused
from broker.http.api.models import RevocationRequest, Revoked, answer
from broker.http.api.operations import operation
from broker.http.bodies import decode_json, read_json
from broker.http.deadlines import answer_within
from broker.http.nodes.bearers import count_bearers
from broker.http.services import HttpServices

DescribedRevocation: TypeAlias = Annotated[
    RevocationRequest,
    Meta(
        extra_json_schema={
            "oneOf": [
                {
                    "required": ["jti"],
                    "not": {"anyOf": [{"required": ["user_id"]}, {"required": ["issued_before"]}]},
                },
                {"required": ["user_id"], "not": {"required": ["jti"]}},
            ]
        }
    ),
]
"""With what `make_revocation` asks of it."""


@attrs.frozen
class RevocationRoutes:
    """The route that takes tokens back."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the route to a blueprint below /api."""
        api.add_url_rule("/revocations", view_func=self.revoke, methods=["POST"])

    @operation(request=DescribedRevocation, response=Revoked, need=ADMIN)
    async def revoke(self) -> Response:
        """Take tokens back: close their connections with 4001, and refuse the tokens until `expires_at`.

        On all nodes: those that cannot hear of it now do so as soon as they reach the engine again. The connections are
        counted just before; nodes that do not answer within `http.nodes_seconds` are counted in `silent_nodes`.
        """
        services = self.services
        asked = decode_json(await read_json(services.settings.http), RevocationRequest)
        now = services.wall_clock()
        revocation = make_revocation(asked, now=now, ttl_seconds=services.settings.auth.revocation_seconds)
        with answer_within(services.settings.http.request_seconds):
            bearers = await count_bearers(services, revocation)
            await services.revocations.revoke(revocation)
        return answer(Revoked(bearers.count, revocation.expires_at, bearers.silent_nodes))


def make_revocation(asked: RevocationRequest, *, now: float, ttl_seconds: float) -> Revocation:
    """Return the revocation that is asked for; pure.

    :raises Refused: `invalid_message`, naming the field.
    """
    expires_at = now + ttl_seconds if asked.expires_at is UNSET else asked.expires_at
    if expires_at <= now:
        raise _invalid("expires_at: a time to come, in Unix seconds")
    if asked.jti is not UNSET:
        if asked.user_id is not UNSET or asked.issued_before is not UNSET:
            raise _invalid("jti: alone, as it names one token")
        return Revocation(RevocationKind.TOKEN, asked.jti, expires_at)
    if asked.user_id is UNSET:
        raise _invalid("jti or user_id: one of them is needed")
    if asked.issued_before is UNSET:
        return Revocation(RevocationKind.USER, asked.user_id, expires_at)
    return Revocation(RevocationKind.ISSUED, asked.user_id, expires_at, asked.issued_before)


def _invalid(message: str) -> Refused:
    return Refused(ErrorCode.INVALID_MESSAGE, message)
