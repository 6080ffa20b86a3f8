"""Every path that the console builds from a name leads to what has that name, and to nothing else."""

from urllib.parse import unquote, urlsplit

from tests.support.names import is_allowed, some_names

BUILD = """async ({names, base}) => {
  const { roomPath, userPath, memberPath } = await import("/web/console/api.js");
  const build = (path) => { try { return new URL(path(), base).href; } catch (error) { return null; } };
  return names.map((name) => [
    build(() => roomPath(name, "/messages")), build(() => userPath(name)), build(() => memberPath(name, name)),
  ]);
}"""


async def test_the_console_addresses_what_it_names(world):
    names = [name for name in some_names(600) if "/" not in name]

    def script(page):
        return page.evaluate(BUILD, {"names": names, "base": "http://greenroom.test/"})

    built = await world.browse(script)
    for name, (room, user, member) in zip(names, built, strict=True):
        if not is_allowed(name):
            assert (room, user, member) == (None, None, None), name
            continue
        assert _segments(room) == ["api", "rooms", name, "messages"]
        assert _segments(user) == ["api", "users", name]
        assert _segments(member) == ["api", "rooms", name, "users", name]


def _segments(url: str) -> list[str]:
    parts = urlsplit(url)
    assert (parts.netloc, parts.query, parts.fragment) == ("greenroom.test", "", "")
    return [unquote(segment, errors="strict") for segment in parts.path.split("/")[1:]]
