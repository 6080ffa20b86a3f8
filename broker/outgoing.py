"""The answers to HTTP requests that the server makes: to applications, and to the providers of keys."""

import httpx2


async def read_bounded(response: httpx2.Response, most_bytes: int) -> bytes | None:
    """Return the body of a streamed answer as it is sent, not decompressed; None if it has more than `most_bytes`.

    Then the response is closed, and the rest is not read.

    :raises httpx2.HTTPError: if the body is cut off.
    """
    data = bytearray()
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > most_bytes:
                # Ends the loop by an error: httpx2 leaves generators that are not exhausted to the garbage collector.
                await response.aclose()
    except Exception:
        if len(data) <= most_bytes:
            raise
    return bytes(data) if len(data) <= most_bytes else None
