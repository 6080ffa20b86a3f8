"""Whom a request through trusted proxies is from, whatever its sender has written before them."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.settings import ServerSettings
from broker.transport.forwarding import Forwarding

TRUSTED = ("10.0.0.0/8", "fd00::/8", "unix")
PROXIES = st.one_of(st.ip_addresses(v=4, network="10.0.0.0/8"), st.ip_addresses(v=6, network="fd00::/8")).map(
    str
)


def is_trusted(text: str) -> bool:
    return any(ip_address(text) in ip_network(name) for name in TRUSTED if name != "unix")


CLIENTS = (
    st.ip_addresses()
    .filter(lambda address: getattr(address, "ipv4_mapped", None) is None)
    .map(str)
    .filter(lambda text: not is_trusted(text))
)
"""Addresses of nobody who is trusted."""
FORGED = st.one_of(
    st.text('"\\,;=[]:. \tfor', max_size=30),
    st.sampled_from(
        ["for=10.0.0.1", '"', 'for="', 'for="\\', "10.0.0.1, 10.0.0.2", 'for="1.2.3.4', "a=", ","]
    ),
    st.binary(max_size=20).map(lambda data: data.decode("latin-1")),
).filter(lambda text: "\n" not in text and "\r" not in text)

FORWARDINGS = {
    name: Forwarding.of(ServerSettings(trusted_proxies=TRUSTED, forwarded_header=name))
    for name in ("x-forwarded-for", "forwarded")
}


def written(header: str, address: str, port: int | None, extra: bool) -> str:
    """Return what a proxy adds for a client."""
    is_ipv6 = ":" in address
    host = f"[{address}]" if is_ipv6 and (port is not None or header == "forwarded") else address
    node = host if port is None else f"{host}:{port}"
    if header == "x-forwarded-for":
        return node
    quoted = f'"{node}"' if is_ipv6 or port is not None else node
    return f'proto=https;For={quoted};by="_a,b"' if extra else f"for={quoted}"


@pytest.mark.parametrize("header", FORWARDINGS)
@given(data=st.data())
def test_the_address_that_the_outermost_trusted_proxy_saw_counts(header: str, data: st.DataObject) -> None:
    client = data.draw(CLIENTS)
    hops = data.draw(st.lists(PROXIES, min_size=1, max_size=4))
    values = [data.draw(FORGED)] if data.draw(st.booleans()) else []
    for address in [client, *hops[:-1]]:
        port = data.draw(st.none() | st.integers(1, 65_535))
        value = written(header, address, port, data.draw(st.booleans()))
        # A proxy appends to the list that it was sent, or adds a line.
        if values and data.draw(st.booleans()):
            values[-1] += ", " + value
        else:
            values.append(value)
    encoded = [value.encode("latin-1") for value in values]
    forwarding = FORWARDINGS[header]
    assert forwarding is not None
    assert forwarding.client_of(hops[-1], encoded) == str(ip_address(client))
    assert forwarding.client_of("unix", encoded) == str(ip_address(client))
    # Nobody else is believed.
    assert forwarding.client_of(client, encoded) == client


@pytest.mark.parametrize("header", FORWARDINGS)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_whatever_a_proxy_writes_an_address_comes_out(header: str, values: list[bytes]) -> None:
    forwarding = FORWARDINGS[header]
    assert forwarding is not None
    client = forwarding.client_of("10.0.0.1", values)
    ip_address(client)


@pytest.mark.parametrize(
    ("header", "value", "client"),
    [
        ("x-forwarded-for", "unknown", "10.0.0.1"),
        ("x-forwarded-for", "", "10.0.0.1"),
        ("x-forwarded-for", "192.0.2.1,", "10.0.0.1"),
        ("x-forwarded-for", "192.0.2.1, unknown", "10.0.0.1"),
        ("x-forwarded-for", "192.0.2.1, nonsense, 10.9.9.9", "10.9.9.9"),
        ("x-forwarded-for", "10.3.0.1, 10.2.0.1", "10.3.0.1"),
        ("x-forwarded-for", "::ffff:192.0.2.1", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1:4711", "192.0.2.1"),
        ("x-forwarded-for", "2001:db8::1", "2001:db8::1"),
        ("x-forwarded-for", "[2001:db8::1]:4711", "2001:db8::1"),
        ("forwarded", "for=_hidden", "10.0.0.1"),
        ("forwarded", "for=unknown", "10.0.0.1"),
        ("forwarded", "proto=https;by=192.0.2.9", "10.0.0.1"),
        ("forwarded", 'for="192.0.2.1:_port"', "10.0.0.1"),
        ("forwarded", "FOR=192.0.2.1", "192.0.2.1"),
        ("forwarded", 'for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("forwarded", r'for="192.0.2.\1"', "192.0.2.1"),
        ("forwarded", "for=192.0.2.43, for=198.51.100.17;by=203.0.113.60;proto=http", "198.51.100.17"),
    ],
)
def test_forms_of_an_address(header: str, value: str, client: str) -> None:
    """RFC 7239 sections 4 and 6; an address that is not told is that of the proxy that did not tell it."""
    forwarding = FORWARDINGS[header]
    assert forwarding is not None
    assert forwarding.client_of("10.0.0.1", [value.encode()]) == client


def test_without_trusted_proxies_there_is_nothing_to_believe() -> None:
    assert Forwarding.of(ServerSettings()) is None
