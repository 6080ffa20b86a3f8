"""Authentication of event streams by client tokens; the gate checks API keys."""

import attrs

from broker.auth.bearer import find_token
from broker.auth.cookies import find_cookie_token
from broker.auth.tokens import verify_with_patience
from broker.http.exchange import this_request
from broker.http.refusals import address_of
from broker.http.services import HttpServices
from broker.model import Capability, Claims
from broker.sessions.decisions import Decisions


@attrs.frozen
class Access:
    """Checks the credentials of the request being handled."""

    services: HttpServices

    async def authenticate_listener(self) -> Claims | None:
        """Return the claims of a client token, or None for a bearer of the API key.

        The token may be in the `token` parameter too: a browser's EventSource cannot set headers.

        A cookie counts where neither has a token.

        :raises Disconnect: 4001, which is status 401; 4003, which is 403, for a page that may not use the cookie; `KeysPending`, which is 503.
        """
        if this_request().is_called_with_key:
            return None
        return await verify_with_patience(self.services.verifier, self._find_token())

    async def ask_hooks(self, claims: Claims, room: str, connection: str) -> Claims:
        """Let the application decide about a listener's connection and its join; returns the claims as it changes them.

        :raises Disconnect: if it refuses the connection, or the token was taken back meanwhile.
        :raises Refused: if it refuses the join.
        """
        hooks = self.services.hooks
        if hooks is None:
            return claims
        scope = this_request().scope
        decisions = Decisions.of(
            hooks,
            claims,
            connection,
            transport="event_stream",
            address=address_of(scope),
            headers=list(scope["headers"]),
        )
        await decisions.connect(room)
        await decisions.join(room)
        # Nothing may come between this and the place among the open connections.
        claims = decisions.apply(self.services.verifier.verify(self._find_token()))
        self.services.policy.check(claims, room, Capability.JOIN)
        return claims

    def _find_token(self) -> str | None:
        request = this_request()
        header = request.headers.get("Authorization")
        token = find_token(
            query=request.query_string.decode("latin-1"),
            headers=[] if header is None else [(b"authorization", header.encode("latin-1", "replace"))],
            subprotocols=(),
        )
        settings = self.services.settings
        if token is None and settings.auth.cookie is not None:
            token = find_cookie_token(
                list(request.scope["headers"]),
                name=settings.auth.cookie,
                origins=settings.websocket.allowed_origins,
                may_lack_origin=True,
            )
        return token
