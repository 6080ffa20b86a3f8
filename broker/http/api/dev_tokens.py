"""The API's client tokens for trials, with `--dev` only."""

import attrs
from msgspec import UNSET
from quart import Blueprint, Response

from broker.auth.api_keys import ADMIN
from broker.auth.mint import make_token
from broker.errors import ConfigurationError, ErrorCode, Refused
from broker.http.api.models import answer
from broker.http.api.operations import operation
from broker.http.bodies import decode_json, read_json
from broker.http.nodes.states import MintedToken, TokenRequest
from broker.http.services import HttpServices


@attrs.frozen
class DevRoutes:
    """The route that makes tokens; added only where `services.makes_tokens`."""

    services: HttpServices

    def add_to(self, api: Blueprint) -> None:
        """Add the route to a blueprint below /api."""
        api.add_url_rule("/dev/tokens", view_func=self.make_token, methods=["POST"])

    @operation(request=TokenRequest, response=MintedToken, need=ADMIN)
    async def make_token(self) -> Response:
        """Make a client token.

        There only with `greenroom serve --dev`, for trials; elsewhere your application signs its users' tokens.
        """
        settings = self.services.settings
        asked = decode_json(await read_json(settings.http), TokenRequest)
        now = self.services.wall_clock()
        try:
            token = make_token(
                settings.auth,
                asked.user_id,
                ttl_seconds=asked.ttl_seconds,
                now=now,
                rooms=None if asked.rooms is UNSET else asked.rooms,
                can=None if asked.can is UNSET else asked.can,
                info=None if asked.info is UNSET else asked.info,
                auto_join=None if asked.auto_join is UNSET else asked.auto_join,
            )
        except ConfigurationError as error:
            raise Refused(ErrorCode.INVALID_MESSAGE, str(error)) from None
        return answer(MintedToken(token, asked.user_id, int(now + asked.ttl_seconds)))
