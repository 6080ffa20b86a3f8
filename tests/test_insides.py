"""CONTRIBUTING.md names every place that uses the insides of a library, and no others."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRIVATE_IMPORT = re.compile(
    r"^\s*(?:from|import) (?!broker|actors|bench|_greenroom)[\w.]*\b_[a-z]\w*", re.MULTILINE
)
UNDOCUMENTED_IMPORT = re.compile(
    r"^\s*(?:from|import) (?:hypercorn\.(?:app_wrappers|events|protocol|trio|utils)|quart_trio\.(?:asgi|wrappers)"
    r"|quart\.wrappers\.(?:base|response)|jwt\.utils)\b",
    re.MULTILINE,
)
"""Modules that their libraries' documentation does not mention, or not as something to use."""
PRIVATE_ATTRIBUTE = re.compile(r"noqa: SLF001(?!.*\bdocumented\b)")
"""Ruff finds them; a comment says so where a name with an underscore is documented all the same."""
FILES = [path for folder in ("actors", "broker", "bench") for path in (ROOT / folder).rglob("*.py")]


def uses_insides(text: str) -> bool:
    return any(found.search(text) for found in (PRIVATE_IMPORT, UNDOCUMENTED_IMPORT, PRIVATE_ATTRIBUTE))


def test_the_finder_of_insides_finds_each_kind() -> None:
    for line in (
        "from h11._receivebuffer import ReceiveBuffer",
        "import trio._core",
        "from hypercorn.trio.tcp_server import TCPServer",
        "x = a._b  # noqa: SLF001",
    ):
        assert uses_insides(line), line
    for line in ("from hypercorn.typing import Scope", "from broker._x import y", "import h11"):
        assert not uses_insides(line), line


def test_every_use_of_a_library_s_insides_is_named_with_its_reason() -> None:
    found = {str(path.relative_to(ROOT)) for path in FILES if uses_insides(path.read_text())}
    section = (
        (ROOT / "CONTRIBUTING.md").read_text().partition("## Insides of libraries")[2].partition("\n## ")[0]
    )
    named = re.findall(r"^\| `([^`]+\.py)` \| .+ \| .+ \|$", section, re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == found
