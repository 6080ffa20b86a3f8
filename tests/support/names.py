"""Names that are hard to put into a path."""

from random import Random

from broker.errors import Refused
from broker.model import check_room_name

PIECES = [".", "..", "%2e", "%2E", "%", "%25", "/", "\\", "?", "#", "&", "=", "+", " ", ":", ";", "@", "~", "*", "'", '"', "<", "a", "Z",
          "é", "e\u0301", "\U0001f4a9", "\u200b", "\u202e", "\ufeff", "\ufffd", "//", "http:", "user_", "users", "messages"]  # fmt: skip


def some_names(count: int) -> list[str]:
    random = Random(11)
    names = ["." * dots for dots in range(1, 6)]
    while len(names) < count:
        names.append("".join(random.choices(PIECES, k=random.randint(1, 5))))
    return names


def is_allowed(name: str) -> bool:
    try:
        check_room_name(name)
    except Refused:
        return False
    return True
