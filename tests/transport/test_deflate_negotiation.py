"""The handshake agrees on permessage-deflate as RFC 7692 has it, and as another implementation does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import parse_extension

from broker.transport.deflate.negotiation import agree

PLAIN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TEN = f"{PLAIN}; server_max_window_bits=10"

TABLE = {
    # Section 7.1.3
    "permessage-deflate": PLAIN,
    "permessage-deflate; client_max_window_bits; server_max_window_bits=10": TEN,
    "permessage-deflate; client_max_window_bits; server_max_window_bits=10,"
    " permessage-deflate; client_max_window_bits": TEN,
    "permessage-deflate; server_no_context_takeover; client_max_window_bits": PLAIN,
    # Section 5.1: the first that can be accepted
    "permessage-foo, permessage-deflate": PLAIN,
    "permessage-bar; x=10, permessage-deflate; server_max_window_bits=10, permessage-deflate": TEN,
    'permessage-foo; x="a, permessage-deflate; y", permessage-deflate; server_max_window_bits=10': TEN,
    "permessage-foo": None,
    "": None,
    ",  , permessage-deflate ,,": PLAIN,
    "permessage-deflate2": None,
    "x-permessage-deflate": None,
    # Section 7.1.1: no context takeover has no value
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover": PLAIN,
    "permessage-deflate; server_no_context_takeover=1": None,
    "permessage-deflate; client_no_context_takeover=true": None,
    "permessage-deflate; client_no_context_takeover=1, permessage-deflate": PLAIN,
    # Section 7.1.2.1: a server's window has a value, without a leading zero; zlib makes none of 8 bits
    "permessage-deflate; server_max_window_bits": None,
    "permessage-deflate; server_max_window_bits=7": None,
    "permessage-deflate; server_max_window_bits=8": None,
    "permessage-deflate; server_max_window_bits=8, permessage-deflate": PLAIN,
    "permessage-deflate; server_max_window_bits=9": f"{PLAIN}; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=15": f"{PLAIN}; server_max_window_bits=15",
    "permessage-deflate; server_max_window_bits=16": None,
    "permessage-deflate; server_max_window_bits=010": None,
    "permessage-deflate; server_max_window_bits=+9": None,
    "permessage-deflate; server_max_window_bits=ten": None,
    # Section 5.2 with RFC 6455 section 9.1: a value may be quoted
    'permessage-deflate; server_max_window_bits="10"': TEN,
    'permessage-deflate; server_max_window_bits="\\1\\0"': TEN,
    'permessage-deflate; server_max_window_bits=" 10"': None,
    'permessage-deflate; server_max_window_bits=""': None,
    'permessage-deflate; server_max_window_bits = "10" ': TEN,
    # Section 7.1.2.2: a client's window may have a value; nothing has to answer it
    "permessage-deflate; client_max_window_bits=8": PLAIN,
    "permessage-deflate; client_max_window_bits=15": PLAIN,
    "permessage-deflate; client_max_window_bits=7": None,
    "permessage-deflate; client_max_window_bits=16": None,
    'permessage-deflate; client_max_window_bits=""': None,
    # Section 7.1: unknown parameters, and one name twice
    "permessage-deflate; foo": None,
    "permessage-deflate; foo=1, permessage-deflate": PLAIN,
    "permessage-deflate; Server_Max_Window_Bits=10": None,
    "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10": None,
    "permessage-deflate; client_max_window_bits; client_max_window_bits=10": None,
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover": None,
    # RFC 6455 section 9.1: no such list. The handshake refuses these before.
    "permessage-deflate;": None,
    "permessage-deflate; ; client_max_window_bits": None,
    "permessage-deflate; server_max_window_bits=": None,
    'permessage-deflate; server_max_window_bits="10': None,
    "permessage-deflate client_max_window_bits": None,
}


@pytest.mark.parametrize("offers", TABLE)
def test_an_offer_is_answered_as_the_rfc_has_it(offers: str) -> None:
    agreement = agree([offers.encode()])
    assert (None if agreement is None else agreement.header.decode()) == TABLE[offers]


def test_offers_in_several_lines_are_one_list() -> None:
    agreement = agree([b"permessage-deflate; foo", b"permessage-deflate; server_max_window_bits=10"])
    assert agreement is not None
    assert agreement.header.decode() == TEN


NAMES = st.sampled_from(
    [
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
        "foo",
    ]
)
VALUES = st.sampled_from(["", "=8", "=9", "= 10", "=15", '="9"', '="\\15"', "=16", "=09", "=x"])
OFFERS = st.builds(
    lambda name, parameters: "; ".join([name, *parameters]),
    st.sampled_from(["permessage-deflate", "permessage-deflate", "x-other"]),
    st.lists(st.builds("".join, st.tuples(NAMES, VALUES)), max_size=3),
)


def is_acceptable(parameters: list[tuple[str, str | None]]) -> bool:
    """Whether another server accepts an offer, which for a window of 8 bits fails in zlib."""
    factory = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    try:
        factory.process_request_params(parameters, [])  # type: ignore[arg-type]  # a NewType of str
    except (NegotiationError, AssertionError):
        return False
    return True


@given(st.lists(OFFERS, max_size=4))
def test_any_offers_are_taken_as_by_another_server_and_the_answer_by_another_client(
    offers: list[str],
) -> None:
    agreement = agree([", ".join(offers).encode()])
    parsed = [parse_extension(offer)[0] for offer in offers]
    accepted = [one for one in parsed if one[0] == "permessage-deflate" and is_acceptable(list(one[1]))]
    assert (agreement is None) == (not accepted)
    if agreement is None:
        return
    [(name, answer)] = parse_extension(agreement.header.decode())
    assert name == "permessage-deflate"
    offered = dict(accepted[0][1]).get("server_max_window_bits")
    client = ClientPerMessageDeflateFactory(
        server_max_window_bits=None if offered is None else int(offered),
        client_max_window_bits=True,
    )
    extension = client.process_response_params(answer, [])
    assert extension.remote_no_context_takeover
    assert extension.local_no_context_takeover
    assert extension.remote_max_window_bits == agreement.window_bits == int(offered or 15)
