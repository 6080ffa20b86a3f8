"""The browser client in real pages, through everything that ends a connection."""

from urllib.request import urlopen

import pytest


def numbers(count):
    return [str(number) for number in range(count)]


def test_two_pages_chat_over_compressed_connections(visit, server):
    ann, bob = visit("ann"), visit("bob")
    ann.wait("() => room.state === 'joined'")
    bob.wait("() => room.state === 'joined'")
    ann.page.fill("#text", "hello, Bob")
    ann.page.press("#text", "Enter")
    bob.wait_text("hello, Bob")
    bob.page.fill("#text", "hello, Ann <b>!</b>")
    bob.page.click("button")
    ann.wait_text("hello, Ann <b>!</b>")
    assert ann.page.locator("li.chat").all_inner_texts() == ["ann: hello, Bob", "bob: hello, Ann <b>!</b>"]
    assert ann.texts() == bob.texts()
    assert ann.page.evaluate("acks") == [1]
    ann.show("client-two-pages")
    # The token stays out of addresses.
    assert ann.attempts == [ann.attempts[0]]
    assert ann.attempts[0].endswith("/ws")
    with urlopen(f"{server.url}/metrics") as page:
        samples = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines() if line[0] != "#")
    counts = {name.partition("{")[0]: float(value) for name, value in samples.items() if "deflate" in name}
    assert counts["greenroom_deflate_connections_total"] >= 2
    assert counts["greenroom_deflate_compressed_bytes_total"] > 0


def test_who_was_offline_has_missed_nothing_and_hears_nothing_twice(visit):
    ann, bob = visit("ann"), visit("bob")
    for visitor in (ann, bob):
        visitor.wait("() => room.state === 'joined'")
    ann.say("0")
    bob.wait_text("0")
    bob.context.set_offline(True)
    bob.wait("() => client.state === 'waiting'")
    bob.show("client-offline")
    for text in ("1", "2", "3"):
        ann.say(text)
    ann.wait("() => acks.length === 4")
    # What is said meanwhile is kept.
    bob.say("4")
    assert bob.texts() == ["0"]
    bob.context.set_offline(False)
    for visitor in (ann, bob):
        visitor.wait_text("4")
    assert ann.texts() == bob.texts() == numbers(5)
    assert not bob.page.evaluate("heard.some(({ type }) => type === 'gap')")
    bob.show("client-back-online")


def test_through_a_killed_server_nothing_is_lost_or_heard_twice(visit, server):
    ann, bob = visit("ann"), visit("bob")
    for visitor in (ann, bob):
        visitor.wait("() => room.state === 'joined'")
    count = 0
    for _ in range(2):
        for _ in range(20):
            (ann if count % 2 else bob).say(str(count))
            count += 1
        server.kill()
        for visitor in (ann, bob):
            visitor.wait("() => client.state !== 'open'")
            visitor.say(str(count))
            count += 1
        server.start()
    for visitor in (ann, bob):
        visitor.wait("([count]) => heard.filter(({ type }) => type === 'chat').length >= count", count)
        assert sorted(visitor.texts(), key=int) == numbers(count)
        assert not visitor.page.evaluate("heard.some(({ type }) => type === 'gap')")
        offsets = visitor.page.evaluate(
            "heard.filter(({ type }) => type === 'chat').map(({ offset }) => offset)"
        )
        assert offsets == list(range(1, count + 1))
    assert ann.texts() == bob.texts()
    # Each one's own are in the order in which they were said.
    own = bob.page.evaluate(
        "heard.filter(({ user_id, type }) => user_id === 'bob' && type === 'chat').map(({ text }) => +text)"
    )
    assert own == sorted(own)
    assert sorted(ann.page.evaluate("acks") + bob.page.evaluate("acks")) == list(range(1, count + 1))


@pytest.mark.parametrize("token", ["of another secret", "nonsense"])
def test_a_refused_token_stops_it_for_good(visit, token, make_token):
    mallory = visit("mallory", has_timers_of_ours=True, token=make_token(token))
    mallory.wait("() => client.state === 'closed'")
    mallory.let_time_pass()
    assert len(mallory.attempts) == 1
    assert mallory.page.evaluate("asked") == 1
    assert "open" not in mallory.page.evaluate("states.map(({ state }) => state)")
    assert mallory.page.evaluate("states.at(-1).error.closeCode") == 4001
    mallory.show("client-refused")


@pytest.mark.parametrize("kind", ["expired", "short"])
def test_a_token_that_has_run_out_is_asked_for_again_until_there_is_another(visit, kind, make_token):
    ann = visit("ann", token=make_token(kind))
    ann.wait("() => states.some(({ code }) => code === 4001 || code === 4101)")
    ann.page.evaluate("(token) => { window.token = token }", make_token("good"))
    ann.wait("() => room.state === 'joined'")
    assert ann.page.evaluate("asked") > 1


def test_what_is_put_off_is_done_as_time_passes(visit, server):
    """So a client that had not given up would try again in the tests of those that have."""
    ann = visit("ann", has_timers_of_ours=True)
    ann.wait("() => room.state === 'joined'")
    server.kill()
    ann.wait("() => client.state === 'waiting'")
    attempts = len(ann.attempts)
    ann.let_time_pass()
    ann.wait("() => client.state === 'waiting'")
    assert len(ann.attempts) > attempts
    server.start()


def test_a_page_that_is_put_away_is_gone_at_once_and_comes_back_as_it_was(visit, application):
    ann, bob = visit("ann"), visit("bob")
    for visitor in (ann, bob):
        visitor.wait("() => room.state === 'joined'")
    bob.page.evaluate("window.isTheSamePage = true")
    bob.page.goto(f"{application}/chat.css")
    ann.wait("() => heard.some(({ type, user_id }) => type === 'user_left' && user_id === 'bob')")
    ann.say("while you were out")
    ann.wait("() => acks.length === 1")
    # A page that was kept is not loaded again.
    bob.page.go_back(wait_until="commit")
    bob.wait("() => room.state === 'joined'")
    # The browser kept the page, which it does only if no connection is open; and the page kept its place in the room.
    assert bob.page.evaluate("window.isTheSamePage === true")
    bob.wait_text("while you were out")
    assert bob.texts() == ann.texts() == ["while you were out"]
