"""All errors of the toolkit have one root, and it is not everybody's."""

import pytest

import actors


@pytest.mark.parametrize(
    "error",
    [actors.MailboxFullError, actors.ActorStoppedError, actors.ActorFailedError, actors.EscalatedError],
)
def test_one_except_clause_catches_every_error_of_the_toolkit(error: type[Exception]) -> None:
    with pytest.raises(actors.ActorError):
        raise error("x")
