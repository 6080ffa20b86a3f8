"""The console at / and its parts, as files."""

import re
from importlib.resources import files

import pytest

TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
}


async def everything(world) -> dict[str, str]:
    """Return all that the page loads, and what that loads in turn, by path."""
    texts = {"/": (await world.client.get("/")).text}
    found = re.findall(r'(?:src|href)="(/[^"]+)"', texts["/"])
    while found:
        path = found.pop()
        if path not in texts:
            response = await world.client.get(path)
            assert response.status_code == 200, path
            assert response.headers["Content-Type"] == TYPES[path.rpartition(".")[2]]
            texts[path] = response.text
            found += [f"/web/console/{name}" for name in re.findall(r'from "\./([\w.]+)"', response.text)]
    return texts


async def test_the_page_and_all_that_it_loads_is_there(world):
    texts = await everything(world)
    there = {f"/web/console/{entry.name}" for entry in (files("broker.web") / "console").iterdir()}
    # Nothing lies about that nobody loads.
    assert set(texts) == there - {"/web/console/index.html"} | {"/"}


async def test_it_has_a_second_address_for_when_a_program_has_its_own_page(world):
    first, second = await world.client.get("/"), await world.client.get("/web/console")
    assert first.headers["Content-Type"] == "text/html; charset=utf-8"
    assert first.content == second.content


async def test_the_page_may_load_nothing_from_elsewhere(world):
    page = await world.client.get("/")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert policy["trusted-types"] == "'none'"
    assert "unsafe" not in str(policy)
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page.text)
    for path, text in (await everything(world)).items():
        elsewhere = set(re.findall(r"https?://[\w.]+", text))
        assert elsewhere <= {"http://www.w3.org"}, path  # the name of the SVG language
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|localStorage|eval\(", text
        )


async def test_a_browser_that_has_it_is_told_so(world):
    first = await world.client.get("/web/console/main.js")
    again = await world.client.get("/web/console/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await world.client.get("/web/console/main.js", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "..%2f__init__.py", "%2e%2e", "..%2fapp.py"])
async def test_nothing_else_is_given_out(world, name):
    assert (await world.client.get(f"/web/console/{name}")).status_code == 404


async def test_head_is_answered_without_a_body(world):
    response = await world.client.head("/")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["Content-Length"]) > 100
