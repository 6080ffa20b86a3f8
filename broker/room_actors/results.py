"""The results of calls as JSON. Pure."""

import msgspec

from broker.portable_json import decode, has_number_out_of_range

_raws = msgspec.json.Decoder(msgspec.Raw)


def encode_result(result: object, *, most_bytes: int) -> bytes:
    """Return the result of a call as JSON that every client can read.

    :raises ValueError: if it is too large, or some clients could not read it.
    :raises TypeError: if it has no JSON form.
    """
    content = msgspec.json.encode(result)
    if len(content) > most_bytes:
        raise ValueError(
            f"the result of a call has {len(content)} bytes; at most {most_bytes} (history.page_bytes)"
        )
    decode(content, _raws.decode)
    if has_number_out_of_range(content):
        raise ValueError("the result of a call has a number that is neither a 64-bit integer nor a double")
    return content
