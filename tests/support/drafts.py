"""Drafts of every kind that is published."""

import json

import msgspec
from hypothesis import strategies as st

from broker.model import Draft, Excluded
from broker.protocol.content import (
    NATIVE_TYPES,
    chat_content,
    chat_header,
    custom_content,
    custom_header,
    notifier_content,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
values = st.none() | st.integers(-5, 5) | texts | st.lists(texts, max_size=2)
# Of an application's message too: there they mean nothing.
fields = st.dictionaries(
    st.sampled_from(["user_id", "event", "text", "data", "name"]) | names, values, max_size=4
)


def chats() -> st.SearchStrategy[Draft]:
    return st.builds(
        lambda user_id, text, most: Draft(chat_content(user_id, text, most), header=chat_header(user_id)),
        names,
        texts,
        st.integers(1, 20),
    )


def customs() -> st.SearchStrategy[Draft]:
    def make(user_id: str, event: str, data: object, ephemeral: bool) -> Draft:
        content = custom_content(user_id, event, msgspec.Raw(json.dumps(data).encode()))
        return Draft(content, ephemeral, header=custom_header(user_id, event))

    return st.builds(make, names, names, values | fields, st.booleans())


def messages() -> st.SearchStrategy[Draft]:
    """Return those of an application."""

    def make(kind: str, rest: dict[str, object], ephemeral: bool) -> Draft:
        content, header = notifier_content(json.dumps(rest | {"type": kind}).encode())
        return Draft(content, ephemeral, header=header)

    return st.builds(make, names.filter(lambda kind: kind not in NATIVE_TYPES), fields, st.booleans())


def drafts() -> st.SearchStrategy[Draft]:
    """Return drafts whose headers can be derived from their content."""
    return chats() | customs() | messages()


def tagged_drafts() -> st.SearchStrategy[Draft]:
    """Return drafts with all that a header may have beside what the content tells."""

    def add(
        draft: Draft, connection: str | None, tags: list[tuple[str, str]], excluded: Excluded | None
    ) -> Draft:
        header = msgspec.structs.replace(
            draft.header, connection=connection, tags=tuple(tags), excluded=excluded
        )
        return msgspec.structs.replace(draft, header=header)

    several = st.frozensets(names, max_size=3)
    excluded = st.builds(Excluded, st.none() | names, st.none() | names, several, several)
    tags = st.lists(st.tuples(names, texts), max_size=3)
    return st.builds(add, drafts(), st.none() | names, tags, st.none() | excluded)
