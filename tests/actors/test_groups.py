"""Exception groups, however deep they are nested."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.groups import leaves, raising_sole_error, sole_error

PLAIN = st.builds(ValueError, st.integers())
NESTED = st.recursive(
    PLAIN, lambda inner: st.builds(ExceptionGroup, st.just("some"), st.lists(inner, min_size=1, max_size=4))
)


def plain(error: Exception) -> list[Exception]:
    return (
        [leaf for part in error.exceptions for leaf in plain(part)]
        if isinstance(error, ExceptionGroup)
        else [error]
    )


@given(st.lists(NESTED, min_size=1))
def test_leaves_are_all_plain_exceptions_in_order(errors: list[Exception]) -> None:
    assert leaves(ExceptionGroup("all", errors)) == [leaf for error in errors for leaf in plain(error)]


@given(PLAIN, st.integers(0, 5))
def test_the_sole_error_is_found_at_any_depth(error: Exception, depth: int) -> None:
    group: Exception = error
    for _ in range(depth):
        group = ExceptionGroup("one", [group])
    assert sole_error(group) is error


def test_a_group_of_two_is_its_own_sole_error() -> None:
    two = ExceptionGroup("two", [ValueError(1), ValueError(2)])
    assert sole_error(ExceptionGroup("one", [two])) is two
    with pytest.raises(ExceptionGroup) as caught, raising_sole_error():
        raise two
    assert caught.value is two


@pytest.mark.parametrize("error", [KeyError("a"), SystemExit(), ExceptionGroup("its own", [KeyError("a")])])
def test_a_nursery_of_one_error_raises_it_bare_and_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, raising_sole_error():
        raise BaseExceptionGroup("nursery", [error])
    assert caught.value is error
