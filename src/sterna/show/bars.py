"""What arms of a comparison cost, as rows of bars: time, memory, files, arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sterna.show.png import png
from sterna.show.scene import (
    INK,
    Layer,
    Line,
    Scene,
    Shape,
    Text,
    blend,
    one_line,
    rectangle,
    text_width,
    wrap,
)

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")  # Okabe and Ito's, one a thread count
_QUIET = blend(INK, 0.55)
_LEFT, _TOP, _WIDTH = 24, 96, 1240
_NAMES = 230  # pixels for the names of arms
_BAR, _GAP = 17, 16
_SMALL, _PLAIN, _LARGE = 12, 14, 20

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """A column of bars: its heading, where it begins, its width with the numbers, its values."""

    title: str
    left: int
    width: int
    value: Callable[[Row], float]
    label: Callable[[Row], str]
    high: Callable[[Row], float] | None = None
    """End of a whisker."""
    every: bool = False
    """Whether each number of threads has a bar of its own, or the first stands for all."""


def bars(result: Mapping[str, Any]) -> bytes:
    """Return a latency result (see `recipes.latency`) as a PNG picture."""
    return png(bars_scene(result))


def bars_scene(result: Mapping[str, Any]) -> Scene:
    """Return the picture of a latency result: a row an arm, a column a cost."""
    rows: Sequence[Row] = result["rows"]
    threads = list(dict.fromkeys(row["threads"] for row in rows))
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["engine"]), []).append(row)
    height = _BAR * len(threads) + _GAP
    bottom = _TOP + height * len(groups)
    shapes: list[Shape] = []
    for number, (name, arms) in enumerate(groups.items()):
        shapes += _name(name, _TOP + number * height, height - _GAP)
        for panel in _PANELS:
            shapes += _bars(panel, arms, rows, threads, _TOP + number * height)
    episode = result["episode"]
    sight = f"{episode['views']} views, " if result.get("map_nodes", True) else ""
    title = f"An episode of {episode['steps']} steps, {sight}batch 1"
    return Scene(
        width=_WIDTH,
        height=bottom + 34,
        title=title,
        description=f"Costs of {len(groups)} arms; ratios against {result['reference']}",
        layers=(
            Layer(name="heads", shapes=tuple(_heads(title, threads, bottom))),
            Layer(name="bars", shapes=tuple(shapes)),
            Layer(name="foot", shapes=tuple(_foot(result, bottom))),
        ),
    )


_PANELS = (
    _Panel(
        title="ms an episode (tick: 95%)",
        left=_LEFT + _NAMES,
        width=480,
        value=lambda row: float(row["episode_ms"]["median"]),
        label=lambda row: (
            f"{_short(row['episode_ms']['median'])} · {_short(row['faster']['median'])}x"
        ),
        high=lambda row: float(row["episode_ms"]["p95"]),
        every=True,
    ),
    _Panel(
        title="MB at peak",
        left=_LEFT + _NAMES + 500,
        width=150,
        value=lambda row: float(row["peak_MB"]),
        label=lambda row: f"{row['peak_MB']:.0f}",
        every=True,
    ),
    _Panel(
        title="MB of files",
        left=_LEFT + _NAMES + 670,
        width=140,
        value=lambda row: float(row["file_MB"]),
        label=lambda row: f"{row['file_MB']:.3g}",
    ),
    _Panel(
        title="GFLOP an episode",
        left=_LEFT + _NAMES + 830,
        width=140,
        value=lambda row: row["flops_episode"] / 1e9,
        label=lambda row: f"{row['flops_episode'] / 1e9:.3g}",
    ),
)


def _heads(title: str, threads: Sequence[int], bottom: float) -> list[Shape]:
    shapes: list[Shape] = [Text(at=(_LEFT, 34), text=title, size=_LARGE)]
    x = float(_LEFT)
    for number, count in enumerate(threads):
        text = f"{count} thread" + ("s" if count > 1 else "")
        shapes.append(rectangle((x, 50, x + 12, 62), _colour(number)))
        shapes.append(Text(at=(x + 18, 61), text=text, size=_SMALL))
        x += 18 + text_width(text, _SMALL) + 20
    for panel in _PANELS:
        shapes.append(
            Text(at=(panel.left, _TOP - 14), text=panel.title, size=_SMALL, colour=_QUIET)
        )
        ends = (panel.left, _TOP - 6), (panel.left, bottom - _GAP + 6)
        shapes.append(Line(points=ends, colour=blend(INK, 0.25), width=1))
    return shapes


def _name(name: tuple[str, str], top: float, height: float) -> list[Shape]:
    model = _ending(one_line(name[0]), _PLAIN, _NAMES - 20)
    middle = top + height / 2
    return [
        Text(at=(_LEFT, middle - 2), text=model, size=_PLAIN),
        Text(at=(_LEFT, middle + 14), text=name[1], size=_SMALL, colour=_QUIET),
    ]


def _bars(
    panel: _Panel, arms: Sequence[Row], rows: Sequence[Row], threads: Sequence[int], top: float
) -> list[Shape]:
    """Draw one arm's bars in a column, on the scale of all rows, with room for the numbers."""
    ends = [panel.high(row) if panel.high else panel.value(row) for row in rows]
    room = max(text_width(panel.label(row), _SMALL) for row in rows) + 14
    scale = (panel.width - room) / (max(ends) or 1.0)
    shown = arms if panel.every else arms[:1]
    first = top + (0 if panel.every else _BAR * (len(threads) - 1) / 2)
    shapes: list[Shape] = []
    for place, row in enumerate(shown):
        y, x = first + place * _BAR, panel.left + scale * panel.value(row)
        colour = _colour(threads.index(row["threads"])) if panel.every else _QUIET
        shapes.append(rectangle((panel.left, y + 2, max(x, panel.left + 1), y + _BAR - 2), colour))
        if panel.high:
            begin, x, middle = x, panel.left + scale * panel.high(row), y + _BAR / 2
            for points in (((begin, middle), (x, middle)), ((x, y + 4), (x, y + _BAR - 4))):
                shapes.append(Line(points=points, colour=INK, width=1.2))
        at = (max(x, panel.left + 1) + 6, y + _BAR - 4)
        shapes.append(Text(at=at, text=panel.label(row), size=_SMALL))
    return shapes


def _foot(result: Mapping[str, Any], bottom: float) -> list[Shape]:
    machine = result["machine"]
    busy = " · the machine was busy: times are too long" if machine["busy"] else ""
    where = f"{machine['cpu']}, {machine['cores']} cores"
    text = f"1x: {result['reference']}, same threads · {where}{busy}"
    line = wrap(text, _SMALL, _WIDTH - 2 * _LEFT, 1)[0]
    return [Text(at=(_LEFT, bottom + 16), text=line, size=_SMALL, colour=_QUIET)]


def _ending(text: str, size: int, width: float) -> str:
    """Return a name, or as much of its end as fits: the end of a path says more."""
    for start in range(len(text)):
        shown = text if start == 0 else f"... {text[start:]}"
        if text_width(shown, size) <= width:
            return shown
    return ""


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
