"""The page at / and its parts."""

import re

import pytest


async def test_the_page_and_its_parts_are_there(world):
    page = await world.client.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    parts = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert sorted(parts) == ["/web/page.css", "/web/page.js"]
    types = {"/web/page.css": "text/css; charset=utf-8", "/web/page.js": "text/javascript; charset=utf-8"}
    for part in parts:
        response = await world.client.get(part)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == types[part]


async def test_the_page_may_load_nothing_from_elsewhere(world):
    page = await world.client.get("/")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", page.text)
    for part in ["/", "/web/page.css", "/web/page.js"]:
        text = (await world.client.get(part)).text
        elsewhere = set(re.findall(r"https?://[\w.]+", text))
        assert elsewhere <= {"http://www.w3.org"}  # the name of the SVG language
        assert "innerHTML" not in text


async def test_a_browser_that_has_it_is_told_so(world):
    first = await world.client.get("/web/page.js")
    again = await world.client.get("/web/page.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await world.client.get("/web/page.js", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "..%2fapp.py", "%2e%2e"])
async def test_nothing_else_is_given_out(world, name):
    assert (await world.client.get(f"/web/{name}")).status_code == 404


async def test_head_is_answered_without_a_body(world):
    response = await world.client.head("/")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["Content-Length"]) > 100
