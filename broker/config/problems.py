"""Problems of a configuration, collected and raised together."""

from collections.abc import Iterable

import attrs

from broker.errors import ConfigurationError


@attrs.frozen
class Problem:
    """One reason not to start.

    `place` is a file and line, a variable or a flag, then the key. `message` says what is allowed there. Neither
    holds a secret.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def refuse(problems: Iterable[Problem]) -> None:
    """Return if there is no problem.

    :raises ConfigurationError: if there is one; its text has a line for each, in the order given.
    """
    text = "\n".join(map(str, problems))
    if text:
        raise ConfigurationError(text)
