"""Matches room names against patterns from tokens and configuration."""


def matches(pattern: str, name: str) -> bool:
    """Tell whether `name` as a whole fits `pattern`; `*` is any run of characters, also none.

    Everything else stands for itself, upper and lower case apart. Each piece between two stars is taken
    where it first occurs, which never spoils a later one, so there is no backtracking for a hostile
    pattern to exploit.
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
