"""The keys are those of the `Settings` type, each with words for what it may hold."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from broker.config.keys import Key, nearest, nearest_key, read_schema
from broker.config.settings import Settings


def key_of(annotation: Any) -> Key:
    table = msgspec.defstruct("Table", [("key", annotation)])
    return read_schema(msgspec.defstruct("Root", [("section", table)])).sections["section"]["key"]


def test_every_setting_has_a_description_and_words() -> None:
    schema = read_schema(Settings)
    keys = [*schema.plain_keys(), *schema.lists["rooms"].values()]
    assert len(keys) > 50
    assert all(key.description and key.allowed for key in keys)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (Annotated[int, Meta(ge=1, le=9)], "a whole number from 1 to 9"),
        (Annotated[int, Meta(ge=1, lt=9)], "a whole number at least 1 and below 9"),
        (Annotated[float, Meta(gt=0)], "a number above 0"),
        (str, "text"),
        (Annotated[str, Meta(min_length=1)], "text of 1 or more characters"),
        (Annotated[str, Meta(max_length=9)], "text of 0 to 9 characters"),
        (Annotated[str | None, Meta(description="x")], "text"),
        (Annotated[int, Meta(ge=0, le=9)] | None, "a whole number from 0 to 9"),
        (tuple[str, ...], "a list, each text"),
        (bool, "true or false"),
    ],
)
def test_what_is_allowed_is_said_in_words(annotation: Any, words: str) -> None:
    assert key_of(annotation).allowed == words


def test_a_kind_without_words_is_a_fault_of_the_program() -> None:
    with pytest.raises(TypeError, match="has no words yet"):
        _ = key_of(dict[str, int]).allowed


def test_the_nearest_key_is_near_as_a_whole_or_by_its_last_part() -> None:
    keys = list(read_schema(Settings).plain_keys())
    assert nearest_key("limts.text_characters", keys).dotted == "limits.text_characters"
    assert nearest_key("port", keys).dotted == "server.port"
    assert nearest_key("server.api_key", keys).dotted == "http.api_key"
    assert nearest("htp", ["server", "http"]) == "http"
