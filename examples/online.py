"""The users who are online on all servers, in any room or none. Run `python online.py`; `python online.py 7` tells whether user 7 is."""

import os
import sys
from collections.abc import Iterator

from broker import Publisher

URL = os.environ.get("GREENROOM_URL", "http://localhost:8000")


def online(server: Publisher) -> Iterator[str]:
    page = server.online_users()
    yield from (user.user_id for user in page.users)
    while page.cursor:
        page = server.online_users(cursor=page.cursor)
        yield from (user.user_id for user in page.users)


with Publisher(URL, os.environ["GREENROOM_API_KEY"]) as server:
    if len(sys.argv) > 1:
        print("online" if server.user(sys.argv[1]).is_online else "away")
    else:
        print(", ".join(online(server)) or "nobody")
