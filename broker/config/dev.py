"""The changes of `--dev`: secrets that nobody has to make up, and a short drain."""

import attrs
import msgspec

from broker.config.check import hmac_algorithms
from broker.config.dev_file import DevSecrets
from broker.config.load import DEFAULT, Loaded

DEV = "--dev"
"""The origin of a setting that `--dev` has set."""

_DRAIN_SECONDS = 0.5


def lacks_secrets(loaded: Loaded) -> bool:
    """Whether a secret is missing. None is when only public keys may verify tokens and there is an API key."""
    auth, http = loaded.settings.auth, loaded.settings.http
    return not http.api_key or (not auth.secret and bool(hmac_algorithms(auth)))


def with_dev_secrets(loaded: Loaded, made: DevSecrets) -> Loaded:
    """Return the settings with `made` for missing secrets, and with a short drain unless one was set.

    The secret is left out when only public keys may verify tokens.
    """
    auth, http, server = loaded.settings.auth, loaded.settings.http, loaded.settings.server
    origins = dict(loaded.origins)
    if not auth.secret and hmac_algorithms(auth):
        auth = msgspec.structs.replace(auth, secret=made.secret)
        origins["auth.secret"] = DEV
    if not http.api_key:
        http = msgspec.structs.replace(http, api_key=made.api_key)
        origins["http.api_key"] = DEV
    if origins["server.drain_seconds"] == DEFAULT:
        server = msgspec.structs.replace(server, drain_seconds=_DRAIN_SECONDS)
        origins["server.drain_seconds"] = DEV
    settings = msgspec.structs.replace(loaded.settings, auth=auth, http=http, server=server)
    return attrs.evolve(loaded, settings=settings, origins=origins)
