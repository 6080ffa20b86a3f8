"""The plots: throughput, latency, cost against rooms, memory. Each is None where nothing was measured for it."""

from collections.abc import Mapping, Sequence

import attrs

from bench.plots.axes import Axis, Panel, decades, draw_legend
from bench.plots.colours import colour_of, name_of
from bench.plots.record import Record, Spread
from bench.plots.svg import Drawing, highest, short
from bench.report import quantile

_WIDTH, _MARGIN, _GAP = 900, 24, 28
_BAR, _NAME_WIDTH, _VALUE_WIDTH = 18, 118, 92


@attrs.frozen
class _Bars:
    """One group of bars: a figure of a scenario."""

    scenario: str
    figure: str


_THROUGHPUT = (
    *(_Bars(f"fanout-{shape}", "deliveries_per_cpu_second") for shape in ("f1", "f1-one", "f2", "f3")),
    _Bars("echo", "pongs_per_cpu_second"),
    _Bars("connect", "joins_per_cpu_second"),
)
_LATENCY = ("latency-f1", "latency-f2", "latency-f3")
_SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999)


def throughput(records: Mapping[str, Record]) -> str | None:
    """Return bars of what each server does in a second of its CPU."""
    return _bar_chart(
        records,
        _THROUGHPUT,
        "Deliveries, answers and joins per second of server CPU (more is better; line: lowest to highest run)",
    )


def idle_memory(records: Mapping[str, Record]) -> str | None:
    """Return bars of what an idle member costs."""
    bars = (_Bars("connect", "memory_per_member_kib"),)
    return _bar_chart(records, bars, "KiB of server memory for each idle member (less is better)")


def _what(record: Record) -> str:
    """Return who talked to whom."""
    known = record.parameters
    if record.scenario == "echo":
        return f"Ping and pong on {known['connections']} connections"
    crowd = known["crowd"] if "crowd" in known else known["shape"]["crowd"]
    connections, rooms = crowd["connections"], crowd["rooms"]
    if record.scenario == "connect":
        return f"{connections:,} connections join {rooms:,} rooms"
    where = f"One room of {connections:,}" if rooms == 1 else f"{rooms:,} rooms of {connections // rooms:,}"
    return f"{where}, {known['load']['in_flight']} in flight" if "crowd" in known else where


def _bar_chart(records: Mapping[str, Record], groups: Sequence[_Bars], title: str) -> str | None:
    known = [group for group in groups if group.scenario in records]
    if not known:
        return None
    columns = 2 if len(known) > 1 else 1
    rows = -(-len(known) // columns)
    most = max(len(records[group.scenario].summary) for group in known)
    height_of_one = 30 + most * (_BAR + 4) + _GAP
    width_of_one = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns
    drawing = Drawing(_WIDTH, 52 + rows * height_of_one, title)
    drawing.text(_MARGIN, 28, title, style="title")
    for place, group in enumerate(known):
        left = _MARGIN + place % columns * (width_of_one + _GAP)
        top = 52 + place // columns * height_of_one
        drawing.text(left, top + 12, _what(records[group.scenario]), style="bold")
        summary = records[group.scenario].summary
        spreads = {server: figures[group.figure] for server, figures in summary.items()}
        _draw_bars(drawing, spreads, left, top + 24, width_of_one)
    return drawing.document()


def _draw_bars(
    drawing: Drawing, spreads: Mapping[str, Spread], left: float, top: float, width: float
) -> None:
    space = width - _NAME_WIDTH - _VALUE_WIDTH
    most = highest(known.high for known in spreads.values())
    ranked = sorted(spreads.items(), key=lambda item: item[1].median, reverse=True)
    for place, (server, known) in enumerate(ranked):
        y, x = top + place * (_BAR + 4), left + _NAME_WIDTH
        middle = y + _BAR / 2
        style = "bold" if server == "greenroom" else ""
        drawing.text(x - 8, middle + 4, name_of(server), anchor="end", style=style)
        drawing.box(x, y, known.median / most * space, _BAR, colour_of(server))
        drawing.line(
            x + known.low / most * space, middle, x + known.high / most * space, middle, style="whisker"
        )
        drawing.text(
            x + max(known.high, known.median) / most * space + 6, middle + 4, short(known.median), style=style
        )


def latency(records: Mapping[str, Record]) -> str | None:
    """Return how long deliveries took, from the middle to the slowest in a thousand."""
    known = [records[scenario] for scenario in _LATENCY if scenario in records]
    if not known:
        return None
    title = "Time to deliver at half of each server's own top rate (less is better)"
    drawing = Drawing(_WIDTH, 380, title)
    drawing.text(_MARGIN, 28, title, style="title")
    lines = [_latencies(record) for record in known]
    values = [y for servers in lines for points in servers.values() for _, y in points]
    up = Axis(decades(min(values), max(values)), "ms")
    across = Axis([2, 10, 100, 1000], "share of deliveries", ["50 %", "90 %", "99 %", "99.9 %"])
    width = (_WIDTH - 2 * _MARGIN - 60 * len(known)) / len(known)
    for place, (servers, record) in enumerate(zip(lines, known, strict=True)):
        panel = Panel(drawing, _MARGIN + 50 + place * (width + 60), 96, width, 190, across, up)
        panel.draw_axes(_what(record))
        for server, points in servers.items():
            panel.draw_line(server, points)
    draw_legend(
        drawing, list(dict.fromkeys(server for servers in lines for server in servers)), _MARGIN + 6, 362
    )
    return drawing.document()


def _latencies(record: Record) -> dict[str, list[tuple[float, float]]]:
    """Return for each server where its shares lie, all runs together: 1 / (1 - share), and milliseconds."""
    counts: dict[str, dict[int, int]] = {}
    for run in record.runs:
        own = counts.setdefault(run.server, {})
        for value, count in run.latency_ns:
            own[value] = own.get(value, 0) + count
    return {
        server: [(1 / (1 - share), quantile(sorted(own.items()), share) / 1e6) for share in _SHARES]
        for server, own in counts.items()
        if own
    }


def scaling(records: Mapping[str, Record]) -> str | None:
    """Return what a second of CPU delivers, against the size and against the number of rooms."""
    record = records.get("scaling")
    if record is None:
        return None
    title = "Deliveries per second of server CPU, as rooms grow in size and in number"
    connections = record.parameters["points"]["connections"]
    drawing = Drawing(_WIDTH, 360, title)
    drawing.text(_MARGIN, 28, title, style="title")
    panels = (
        ("size_", "One room", "members of the room"),
        ("rooms_", f"{connections:,} connections", "rooms they are spread over"),
    )
    for place, (prefix, name, meaning) in enumerate(panels):
        lines = {server: _points(figures, prefix) for server, figures in record.summary.items()}
        _draw_growth(drawing, lines, _MARGIN + 50 + place * 440, Axis([], meaning), name)
    draw_legend(drawing, list(record.summary), _MARGIN + 6, 346)
    return drawing.document()


def memory(records: Mapping[str, Record]) -> str | None:
    """Return the server's memory against the connections that rest in it."""
    record = records.get("scaling")
    if record is None:
        return None
    title = "Memory of the server with idle connections in rooms of 10"
    drawing = Drawing(_WIDTH / 2 + 60, 360, title)
    drawing.text(_MARGIN, 28, title, style="title")
    lines = {server: _points(figures, "resting_") for server, figures in record.summary.items()}
    _draw_growth(drawing, lines, _MARGIN + 50, Axis([], "connections"), "MiB")
    draw_legend(drawing, list(record.summary), _MARGIN + 6, 346)
    return drawing.document()


def _points(figures: Mapping[str, Spread], prefix: str) -> list[tuple[float, float]]:
    return sorted(
        (float(name.removeprefix(prefix)), known.median)
        for name, known in figures.items()
        if name.startswith(prefix)
    )


def _draw_growth(
    drawing: Drawing,
    lines: Mapping[str, list[tuple[float, float]]],
    left: float,
    across: Axis,
    title: str,
) -> None:
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    ends = attrs.evolve(across, ticks=decades(min(xs), max(xs)))
    panel = Panel(drawing, left, 80, 350, 190, ends, Axis(decades(min(ys), max(ys)), ""))
    panel.draw_axes(title)
    for server, points in lines.items():
        panel.draw_line(server, points, dots=True)
