"""How fast rooms are said to go."""

from broker.cli.rates import Rates, RoomSummary, Row, sort_rows


def test_a_rate_needs_two_looks_in_one_epoch():
    rates = Rates()
    assert [row.per_second for row in rates.measure([RoomSummary("a", 1, 10, "e")], 100.0)] == [None]
    second = rates.measure([RoomSummary("a", 1, 25, "e"), RoomSummary("b", 1, 5, "e")], 102.0)
    assert [row.per_second for row in second] == [7.5, None]
    third = rates.measure([RoomSummary("a", 1, 3, "f"), RoomSummary("b", 1, 5, "e")], 103.0)
    assert [row.per_second for row in third] == [None, 0.0]


def test_a_room_that_went_and_came_back_has_no_rate_yet():
    rates = Rates()
    rates.measure([RoomSummary("a", 1, 10, "e")], 1.0)
    rates.measure([], 2.0)
    assert rates.measure([RoomSummary("a", 1, 30, "e")], 3.0)[0].per_second is None


def test_rows_stand_in_the_order_that_was_asked_for():
    rows = [Row("b", 1, 0, "e", 2.0), Row("a", 9, 0, "e", None), Row("c", 5, 0, "e", 2.0)]

    def names(order):
        return "".join(row.room for row in sort_rows(rows, order))

    assert (names("rate"), names("members"), names("name")) == ("cba", "acb", "abc")
