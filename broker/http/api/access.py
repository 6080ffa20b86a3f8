"""Authentication of event streams by client tokens; the gate checks API keys."""

import attrs

from broker.auth.bearer import find_token
from broker.auth.cookies import find_cookie_token
from broker.auth.tokens import verify_with_patience
from broker.http.exchange import this_request
from broker.http.services import HttpServices
from broker.model import Claims


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
        request = this_request()
        if request.is_called_with_key:
            return None
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
        return await verify_with_patience(self.services.verifier, token)
