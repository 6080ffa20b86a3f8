"""How many messages a request counts as, by what its answer may hold. Pure."""

from math import ceil

from broker.protocol import commands

MEMBER_LIST_MESSAGES = 4
"""What a list of members counts as besides its request: only the room knows how long it is."""


def page_of(limit: int | None, page_messages: int) -> int:
    """Return how many events an answer has at most; `limit` is the request's."""
    return page_messages if limit is None else min(limit, page_messages)


def cost_of(
    command: commands.Join | commands.Presence | commands.History,
    *,
    page_messages: int,
    events_per_message: int,
) -> int:
    """Return how many messages a request counts as.

    What was missed since a position counts as nothing: after a restart all clients ask for it at once.
    """
    events, lists_members = 0, False
    match command:
        case commands.Join(last=last, presence=by):
            events = 0 if last is None else page_of(last, page_messages)
            lists_members = by not in {None, "count"}
        case commands.Presence(by=by):
            lists_members = by != "count"
        case commands.History(limit=limit):
            events = page_of(limit, page_messages)
    return 1 + ceil(events / events_per_message) + lists_members * MEMBER_LIST_MESSAGES
