"""Fetches a key set by HTTP, from its address or by way of the issuer's metadata (OpenID Connect Discovery 1.0).

Whoever answers here decides whose tokens are good, so nothing is followed or guessed: one address, certificates that
are checked, no redirects, bounded size and time, and a document that fits in every part.
"""

import json
import re
from collections.abc import Mapping

import httpx2
import trio

from broker.auth.jwks import read_jwks
from broker.auth.keys import KeyRing, KeySource
from broker.auth.remote_keys import FetchedKeys, KeyFetchError
from broker.config.key_urls import check_key_url
from broker.errors import ConfigurationError
from broker.outgoing import read_bounded

FETCH_SECONDS = 10.0
"""Time limit of a fetch, both documents of a discovery together."""
MAX_DOCUMENT_BYTES = 262_144

_MAX_AGE = re.compile(r"max-age=\"?(\d{1,9})\"?", re.ASCII | re.IGNORECASE)


async def fetch_keys(source: KeySource) -> FetchedKeys:
    """Fetch the key set of a source, at most for FETCH_SECONDS.

    :raises KeyFetchError: if it cannot be had, or has no key that can be used.
    """
    try:
        with trio.fail_after(FETCH_SECONDS):
            # A connection of its own each time: a set is fetched a few times an hour.
            async with httpx2.AsyncClient(follow_redirects=False, timeout=FETCH_SECONDS) as client:
                url = source.url if source.discovers is None else await _discover(client, source)
                data, headers = await _get(client, url)
    except trio.TooSlowError:
        raise KeyFetchError(f"no whole answer within {FETCH_SECONDS:g} seconds") from None
    except KeyFetchError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever httpx2, ssl and the resolver raise for a server like this
        raise KeyFetchError(f"{type(error).__name__}: {error}") from None
    try:
        keys = read_jwks(data, allowed=source.algorithms, place="key set", is_remote=True)
    except ConfigurationError as error:
        raise KeyFetchError(str(error)) from None
    return FetchedKeys(KeyRing(keys), stated_age(headers))


def stated_age(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds an answer still holds (RFC 9111 section 4.2); None if it does not say.

    0 for one that must not be kept: the caller has a lower bound.
    """
    control = headers.get("cache-control", "")
    directives = [part.strip().lower() for part in control.split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    for directive in directives:
        if match := _MAX_AGE.fullmatch(directive):
            age = headers.get("age", "")
            spent = int(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0
            return float(max(0, int(match[1]) - spent))
    return None


async def _discover(client: httpx2.AsyncClient, source: KeySource) -> str:
    """Return the address of the keys, as the issuer's metadata give it."""
    data, _ = await _get(client, source.url)
    try:
        metadata = json.loads(data)
    except (ValueError, RecursionError):
        raise KeyFetchError("the issuer's metadata are not JSON") from None
    if not isinstance(metadata, dict):
        raise KeyFetchError("the issuer's metadata are no object")
    # Section 4.3: or one issuer could speak for another.
    if metadata.get("issuer") != source.discovers:
        raise KeyFetchError("the issuer's metadata are those of another issuer")
    url = metadata.get("jwks_uri")
    if not isinstance(url, str):
        raise KeyFetchError("the issuer's metadata have no jwks_uri")
    try:
        check_key_url(url)
    except ValueError as error:
        raise KeyFetchError(f"jwks_uri {error}") from None
    return url


async def _get(client: httpx2.AsyncClient, url: str) -> tuple[bytes, Mapping[str, str]]:
    # Uncompressed, so that its size is what comes.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with client.stream("GET", url, headers=headers) as response:
        if response.is_redirect:
            raise KeyFetchError(f"is redirected ({response.status_code}): name the address that it leads to")
        if response.status_code != 200:
            raise KeyFetchError(f"answered with status {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise KeyFetchError("is compressed, which was not asked for")
        data = await read_bounded(response, MAX_DOCUMENT_BYTES)
        if data is None:
            raise KeyFetchError(f"is larger than {MAX_DOCUMENT_BYTES // 1024} KiB, which no key set is")
        return data, response.headers
