"""How often each layer of a routed policy runs, by depth and budget, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sterna.show.png import png
from sterna.show.scene import INK, Layer, Scene, Shape, Text, blend, one_line, rectangle

_LEFT, _TOP, _CELL, _ROW = 190, 70, 46, 30
_FULL = "#0072b2"
_QUIET = blend(INK, 0.55)


def gates(rows: Sequence[Mapping[str, Any]], units: Sequence[str], title: str) -> bytes:
    """Return a PNG of `gates_scene`."""
    return png(gates_scene(rows, units, title))


def gates_scene(rows: Sequence[Mapping[str, Any]], units: Sequence[str], title: str) -> Scene:
    """Return the picture: a row each of `rows` (``label``, ``open`` [U] in [0, 1]), columns units.

    A cell is the darker the more often its unit ran; the number is its percentage.
    """
    shapes: list[Shape] = []
    for column, unit in enumerate(units):
        x = _LEFT + column * _CELL + _CELL / 2
        stream, _, depth = unit.rpartition(" ")
        shapes.append(_text((x, _TOP - 22), stream or "layer"))
        shapes.append(_text((x, _TOP - 8), depth.removeprefix("layers.")))
    for number, row in enumerate(rows):
        y = _TOP + number * _ROW
        name = one_line(str(row["label"]))
        shapes.append(Text(at=(_LEFT - 10, y + 20), text=name, size=13, anchor="end"))
        for column, share in enumerate(row["open"]):
            x = _LEFT + column * _CELL
            box = (x + 1.0, y + 1.0, x + _CELL - 1.0, y + _ROW - 1.0)
            shapes.append(rectangle(box, blend(_FULL, 0.06 + 0.94 * share)))
            colour = "#ffffff" if share > 0.5 else INK
            text = f"{100 * share:.0f}"
            at = (x + _CELL / 2, y + 20)
            shapes.append(Text(at=at, text=text, size=12, anchor="middle", colour=colour))
    bottom = _TOP + len(rows) * _ROW
    foot = "Percentage of decisions in which a layer ran (words: of instructions)."
    heads = (
        Text(at=(24, 32), text=title, size=18),
        Text(at=(24, bottom + 26), text=foot, size=12, colour=_QUIET),
    )
    return Scene(
        width=max(620, _LEFT + len(units) * _CELL + 24),
        height=bottom + 44,
        title=title,
        description=f"{len(rows)} rows of {len(units)} layers",
        layers=(Layer(name="heads", shapes=heads), Layer(name="cells", shapes=tuple(shapes))),
    )


def _text(at: tuple[float, float], text: str) -> Text:
    return Text(at=at, text=text, size=11, anchor="middle", colour=_QUIET)
