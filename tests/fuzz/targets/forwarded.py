"""The headers that proxies write: what a client writes before a proxy's own element changes nothing."""

from ipaddress import ip_address, ip_network

from broker.transport.forwarding import Forwarding

PROXY = "10.0.0.1"
CLIENT = "192.0.2.7"
NETWORKS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
FORWARDED = Forwarding(NETWORKS, trusts_unix=True, header=b"forwarded", begins_with_proxy_header=False)
FOR = Forwarding(NETWORKS, trusts_unix=True, header=b"x-forwarded-for", begins_with_proxy_header=False)
OWN_ELEMENTS = (
    (FORWARDED, (b"for=192.0.2.7", b'proto=https;FOR="192.0.2.7:80"')),
    (FOR, (b"192.0.2.7", b"192.0.2.7:80")),
)
"""The elements with which the proxy may name CLIENT."""

SEEDS = (
    b"for=192.0.2.60;proto=http;by=203.0.113.43, for=10.0.0.9",
    b'for="[2001:db8:cafe::17]:4711", For=10.1.1.1 ; host="a,b\\"c"',
    b"192.0.2.1, 10.0.0.3, [fd00::1]:80",
    b"for=unknown, for=_hidden",
    b'for="10.0.0.2, for=10.0.0.3',
    b"::ffff:10.0.0.4%eth0,10.0.0.5:123456",
    b'for="',
    b"\xff\x00,,;;==",
)


def check(data: bytes) -> None:
    """Read what a client, or a proxy in front of the last, may have written."""
    for forwarding, elements in OWN_ELEMENTS:
        client = forwarding.client_of(PROXY, [data])
        ip_address(client)
        assert forwarding.client_of(CLIENT, [data]) == CLIENT, "somebody who is no proxy is believed"
        assert forwarding.client_of(PROXY, data.split(b",")) == client, "several lines are not one list"
        for own in elements:
            for values in ([data, own], [data + b", " + own], [data + b"," + own]):
                assert forwarding.client_of(PROXY, values) == CLIENT, (
                    "the proxy's own element is not the last"
                )
