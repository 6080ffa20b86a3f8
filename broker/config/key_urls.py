"""Addresses that keys are fetched from. Pure."""

from ipaddress import ip_address
from urllib.parse import SplitResult

from broker.config.urls import check_url

WELL_KNOWN = "/.well-known/openid-configuration"


def check_key_url(text: str) -> None:
    """Check that keys may be fetched from an address: by https, or by http from this machine alone.

    Who can change a key set on its way can sign tokens.

    :raises ValueError: with the reason, which does not hold the address.
    """
    parts = check_url(text, example="https://issuer.example/keys")
    if parts.scheme == "http" and not _is_loopback(parts):
        raise ValueError("must begin with https://, as whoever changes the keys on their way can sign tokens")


def discovery_url(issuer: str) -> str:
    """Return the address of an issuer's metadata (OpenID Connect Discovery 1.0, section 4.1)."""
    return issuer.rstrip("/") + WELL_KNOWN


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
