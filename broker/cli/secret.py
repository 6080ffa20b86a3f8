"""The secret of a server that runs already, for the commands that make tokens for it."""

from broker.config.check import hmac_algorithms
from broker.config.settings import AuthSettings
from broker.errors import ConfigurationError


def check_secret_is_there(auth: AuthSettings, *, or_else: str = "") -> None:
    """Check that `auth.secret` is set, where an HS* algorithm needs it.

    A new secret would not help here, because the running server would refuse its tokens, so the message suggests
    none; `or_else` is appended to name an alternative.

    :raises ConfigurationError: if it is not set.
    """
    if hmac_algorithms(auth) and not auth.secret:
        raise ConfigurationError(
            f"auth.secret: not set; put the server's secret into GREENROOM_SECRET{or_else}"
        )
