"""Matches room names against patterns from tokens and configuration."""


def matches(pattern: str, name: str) -> bool:
    """Whether the whole `name` matches `pattern`, in which `*` is any run of characters, also none.

    All else is literal and case-sensitive. Each piece between two stars is matched where it first occurs, which never
    prevents a later match, so there is no backtracking for a hostile pattern to exploit.
    """
    first, *pieces = pattern.split("*")
    if not pieces:
        return name == pattern
    *middle, last = pieces
    if not name.startswith(first):
        return False
    position = len(first)
    for piece in middle:
        position = name.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return len(name) - len(last) >= position and name.endswith(last)
