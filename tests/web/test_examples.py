"""The examples that are pages, in a real Chromium."""

from pathlib import Path
from typing import TYPE_CHECKING

from examples.answers import ANSWER
from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import run_example

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SAY_50 = """async () => {
  const { connect } = await import("/greenroom.js");
  const token = async () => (await fetch("/token?user=carl")).text();
  const client = connect(location.origin, { token });
  for (let number = 1; number <= 50; number += 1) await client.room("lobby").chat(`${number}`);
  client.close();
}"""


def visit(chromium: "Browser", address: str, user: str) -> "Page":
    page = chromium.new_context().new_page()
    page.set_default_timeout(PATIENCE_SECONDS * 1000)
    page.goto(f"{address}/?user={user}")
    return page


def wait(page: "Page", selector: str, text: str) -> None:
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector).textContent === text", arg=[selector, text]
    )


def test_the_chat_shows_the_last_50_messages_then_live_ones_and_who_is_there(chromium: "Browser") -> None:
    with run_example("chat") as (address, _):
        ann = visit(chromium, address, "ann")
        wait(ann, "#members", "ann")
        ann.fill("#text", "<b>first</b>")
        ann.press("#text", "Enter")
        wait(ann, "#log", "ann: <b>first</b>")
        ann.evaluate(SAY_50)
        last_50 = "".join(f"carl: {number}" for number in range(1, 51))
        wait(ann, "#log", f"ann: <b>first</b>{last_50}")
        bob = visit(chromium, address, "bob")
        wait(bob, "#log", last_50)
        for page in (ann, bob):
            wait(page, "#members", "ann, bob")
            wait(page, "#online", "ann, bob")
        bob.fill("#text", "second")
        bob.press("#text", "Enter")
        wait(bob, "#log", f"{last_50}bob: second")
        wait(ann, "#log", f"ann: <b>first</b>{last_50}bob: second")
        bob.context.close()
        wait(ann, "#members", "ann")
        ann.context.close()


def test_the_quiz_shows_time_and_points_also_after_the_server_was_killed(
    chromium: "Browser", tmp_path: Path
) -> None:
    quiz = {
        # Not over before a busy machine has looked.
        "ANSWER_SECONDS": "3600",
        "PAUSE_SECONDS": "3600",
        "GREENROOM_SERVER__ENGINE": f"sqlite:///{tmp_path}/quiz.db",
        "GREENROOM_SQLITE__WITNESS_DIRECTORY": str(tmp_path),
    }
    with run_example("quiz", **quiz) as (address, process):
        ann = visit(chromium, address, "ann")
        bob = visit(chromium, address, "bob")
        for page in (ann, bob):
            wait(page, "#text", "Which planet is the largest?")
            page.wait_for_function("() => parseInt(document.querySelector('#left').textContent) > 0")
        bob.click("text=Mars")
        wait(bob, "#result", "That is wrong.")
        ann.click("text=Jupiter")
        for page in (ann, bob):
            wait(page, "#result", "ann has the point.")
            wait(page, ".right", "Jupiter")
            wait(page, "#points", "ann: 1")
            page.context.close()
        process.kill()
        process.wait(PATIENCE_SECONDS)
    with run_example("quiz", **quiz) as (address, _):
        ann = visit(chromium, address, "ann")
        wait(ann, "#result", "ann has the point.")
        wait(ann, "#points", "ann: 1")
        ann.context.close()


def test_the_auction_shows_who_bid_most_and_refuses_a_bid_that_is_late(
    chromium: "Browser", tmp_path: Path
) -> None:
    auction = {
        # Not over before a busy machine has looked.
        "CLOSE_SECONDS": "3600",
        "GREENROOM_SERVER__ENGINE": f"sqlite:///{tmp_path}/auction.db",
        "GREENROOM_SQLITE__WITNESS_DIRECTORY": str(tmp_path),
    }
    with run_example("auction", **auction) as (address, _):
        ann = visit(chromium, address, "ann")
        bob = visit(chromium, address, "bob")
        for page in (ann, bob):
            wait(page, "#price", "no bid")
        ann.fill("#bid", "10")
        ann.press("#bid", "Enter")
        wait(ann, "#price", "10 by you")
        wait(bob, "#price", "10 by ann")
        # As if bob's had been on its way already.
        bob.evaluate("() => { document.querySelector('#bid').min = 1; }")
        bob.fill("#bid", "10")
        bob.press("#bid", "Enter")
        wait(bob, "#refused", "10 is bid already")
        ann.context.close()
        bob.context.close()


def test_the_pointers_of_others_appear_move_and_vanish(chromium: "Browser") -> None:
    with run_example("cursors") as (address, _):
        ann = visit(chromium, address, "ann")
        bob = visit(chromium, address, "bob")
        width, height = ann.evaluate("() => [innerWidth, innerHeight]")
        for page in (ann, bob):
            page.wait_for_function("() => document.querySelector('#hint').textContent.startsWith('You are')")
        for step in range(5):
            ann.mouse.move(width / 4 + step, height / 2)
        bob.wait_for_selector(".cursor >> text=ann")
        bob.wait_for_function(TIP_IS_AT, arg=[width / 4 + 4, height / 2])
        # Another size of the window: the pointer is at the same share of it.
        bob.set_viewport_size({"width": 640, "height": 480})
        bob.wait_for_function(TIP_IS_AT, arg=[640 * (0.25 + 4 / width), 240])
        late = visit(chromium, address, "cat")
        late.wait_for_selector(".cursor >> text=ann")
        assert ann.locator(".cursor").count() == 0
        ann.context.close()
        for page in (bob, late):
            page.wait_for_selector(".cursor", state="detached")
            page.context.close()


TIP_IS_AT = """([x, y]) => {
  const { left, top } = document.querySelector(".cursor").getBoundingClientRect();
  return Math.abs(left - x) < 1 && Math.abs(top - y) < 1;
}"""


def test_an_answer_goes_on_through_a_reload_and_a_killed_server(chromium: "Browser", tmp_path: Path) -> None:
    answers = {
        "GREENROOM_SERVER__ENGINE": f"sqlite:///{tmp_path}/answers.db",
        "GREENROOM_SQLITE__WITNESS_DIRECTORY": str(tmp_path),
    }
    whole = ANSWER.format(question="<b>Why?</b>")
    # The first word comes at once, the last ones later than a busy machine has looked.
    with run_example("answers", **answers, PIECE_SECONDS="30") as (address, process):
        ann = visit(chromium, address, "ann")
        bob = visit(chromium, address, "bob")
        ann.fill("#question", "<b>Why?</b>")
        ann.press("#question", "Enter")
        wait(ann, "#now h2", "You: <b>Why?</b>")
        wait(bob, "#now h2", "ann: <b>Why?</b>")
        bob.wait_for_function(IS_BEGUN, arg=whole)
        ann.reload()
        ann.wait_for_function(IS_BEGUN, arg=whole)
        assert ann.is_disabled("button")
        ann.context.close()
        bob.context.close()
        process.kill()
        process.wait(PATIENCE_SECONDS)
    with run_example("answers", **answers, PIECE_SECONDS="0.01") as (address, _):
        ann = visit(chromium, address, "ann")
        wait(ann, "#answers", f"You: <b>Why?</b>{whole}")
        bob = visit(chromium, address, "bob")
        wait(bob, "#answers", f"ann: <b>Why?</b>{whole}")
        for page in (ann, bob):
            page.wait_for_selector("#now", state="hidden")
            assert page.is_enabled("button")
            page.context.close()


IS_BEGUN = """(whole) => {
  const text = document.querySelector("#now p").textContent;
  return text.length > 0 && text.length < whole.length && whole.startsWith(text);
}"""
