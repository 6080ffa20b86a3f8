"""The changes of `--dev`: generated secrets for one run, and a short drain."""

import secrets

import attrs
import msgspec

from broker.config.check import hmac_algorithms
from broker.config.load import DEFAULT, Loaded

DEV = "--dev"
"""The origin of a setting that `--dev` generated."""

_SECRET_BYTES = 48
_DRAIN_SECONDS = 0.5


def with_dev_secrets(loaded: Loaded) -> Loaded:
    """Return the settings with missing secrets generated, and with a short drain unless one was set.

    No secret is generated when only public keys may verify tokens.
    """
    auth, http, server = loaded.settings.auth, loaded.settings.http, loaded.settings.server
    origins = dict(loaded.origins)
    if not auth.secret and hmac_algorithms(auth):
        auth = msgspec.structs.replace(auth, secret=secrets.token_urlsafe(_SECRET_BYTES))
        origins["auth.secret"] = DEV
    if not http.api_key:
        http = msgspec.structs.replace(http, api_key=secrets.token_urlsafe(_SECRET_BYTES))
        origins["http.api_key"] = DEV
    if origins["server.drain_seconds"] == DEFAULT:
        server = msgspec.structs.replace(server, drain_seconds=_DRAIN_SECONDS)
        origins["server.drain_seconds"] = DEV
    settings = msgspec.structs.replace(loaded.settings, auth=auth, http=http, server=server)
    return attrs.evolve(loaded, settings=settings, origins=origins)
