"""The client of the article that Greenroom answers, unchanged, in a real browser."""

import shutil
import subprocess

import pytest


@pytest.fixture
def built(tmp_path, application, client_folder):
    """Build the article's TypeScript, and put it beside the pages."""
    esbuild = client_folder / "node_modules" / ".bin" / "esbuild"
    if shutil.which("node") is None or not esbuild.exists():
        pytest.skip("needs Node and the browser client's tools (make web)")
    pages = tmp_path / "pages"
    subprocess.run(
        [esbuild, "article.ts", "--outfile=article.js", "--log-level=error"], cwd=pages, check=True
    )


def url_of(server, user, make_token, kind="good"):
    return f"ws://127.0.0.1:{server.port}/ws/lobby?token={make_token(kind, user)}"


def heard_texts(visitor):
    return visitor.page.evaluate("heard.filter(({ type }) => type === 'chat').map(({ text }) => text)")


def test_it_talks_and_comes_back(built, visit, server, make_token):
    ann = visit("ann", "article.html", url=url_of(server, "ann", make_token))
    bob = visit("bob", "article.html", url=url_of(server, "bob", make_token))
    for visitor in (ann, bob):
        visitor.wait("() => heard.some(({ type }) => type === 'user_joined')")
    ann.page.evaluate("socket.send({ type: 'chat', text: 'hello' })")
    bob.wait_text("hello")
    ann.page.evaluate("socket.send({ type: 'ping' })")
    ann.wait("() => heard.some(({ type }) => type === 'pong')")
    said = ann.page.evaluate("heard.find(({ type }) => type === 'chat')")
    assert {"type": "chat", "user_id": "ann", "text": "hello"}.items() <= said.items()
    server.kill()
    server.start()
    for visitor in (ann, bob):
        visitor.wait("() => heard.filter(({ type }) => type === 'joined').length === 2")
    bob.page.evaluate("socket.send({ type: 'chat', text: 'back again' })")
    ann.wait_text("back again")
    assert heard_texts(ann) == heard_texts(bob) == ["hello", "back again"]
    ann.show("article-client")


def test_a_refused_token_stops_it(built, visit, server, make_token):
    url = url_of(server, "ann", make_token, "expired")
    ann = visit("ann", "article.html", has_timers_of_ours=True, url=url)
    is_closed = "socket.ws.readyState === WebSocket.CLOSED"
    ann.wait(f"() => {is_closed}")
    # With a server that refuses the handshake it would try again.
    ann.let_time_pass()
    assert ann.page.evaluate(is_closed)
    assert len(ann.attempts) == 1
    assert ann.page.evaluate("heard") == []
