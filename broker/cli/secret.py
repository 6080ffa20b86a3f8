"""The secret of a server that runs already, for the commands that make tokens for it."""

from broker.config.check import hmac_algorithms
from broker.config.settings import AuthSettings
from broker.errors import ConfigurationError


def check_secret_is_there(auth: AuthSettings, *, or_else: str = "") -> None:
    """Check that tokens can be signed with the server's secret, as far as its settings sign with one.

    `or_else` says what else would do. A new secret, as a server without one is advised to make, would not.

    :raises ConfigurationError: if it is not set.
    """
    if hmac_algorithms(auth) and not auth.secret:
        raise ConfigurationError(
            f"auth.secret: not set; put the server's secret into GREENROOM_SECRET{or_else}"
        )
