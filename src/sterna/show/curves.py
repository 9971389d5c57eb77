"""What policies score at what they cost: a line an arm, whiskers a standard error, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sterna.show.png import png
from sterna.show.scene import INK, Disc, Layer, Line, Scene, Shape, Text, blend, dashes, one_line

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
_LEFT, _TOP, _WIDTH, _HEIGHT, _NAMES = 66, 62, 560, 330, 220
_QUIET, _FAINT = blend(INK, 0.55), blend(INK, 0.12)
_GAP = 17  # pixels between names


def curves(arms: Mapping[str, Sequence[Mapping[str, Any]]], title: str, score: str) -> bytes:
    """Return a PNG of `curves_scene`."""
    return png(curves_scene(arms, title, score))


def curves_scene(arms: Mapping[str, Sequence[Mapping[str, Any]]], title: str, score: str) -> Scene:
    """Return the picture: a line each of `arms`, by name, through its points.

    A point has ``share`` (of the FLOPs, 0 to 1), ``mean`` and ``error`` (0 to 1; None: no whisker).
    Arms of one point are a mark alone, arms of the same points one line with both names; `score`
    names the upright axis. The first two arms are whole lines and lie over the others.
    """
    arms = _joined(arms)
    values = [point["mean"] for points in arms.values() for point in points]
    low = min(0.9, max(0.0, int(min(values) * 10 - 0.5) / 10)) if values else 0.0

    def place(share: float, mean: float) -> tuple[float, float]:
        return _LEFT + share * _WIDTH, _TOP + (1 - (mean - low) / (1 - low)) * _HEIGHT

    frame: list[Shape] = []
    for number in range(round(low * 10), 11):
        y = place(0, number / 10)[1]
        frame.append(Line(points=((_LEFT, y), (_LEFT + _WIDTH, y)), colour=_FAINT, width=1))
        frame.append(_small((_LEFT - 8, y + 4), str(10 * number), "end"))
    for number in range(0, 101, 25):
        x = place(number / 100, low)[0]
        frame.append(_small((x, _TOP + _HEIGHT + 18), f"{number}%", "middle"))
    middle = _LEFT + _WIDTH / 2
    frame.append(_small((middle, _TOP + _HEIGHT + 38), "of the layers' FLOPs", "middle"))
    frame.append(_small((_LEFT - 8, _TOP - 14), f"{one_line(score)}, %", "start"))
    lines: list[Shape] = []
    ends: list[tuple[float, str, str]] = []
    for number, (name, points) in reversed(list(enumerate(arms.items()))):
        colour = _COLOURS[number % len(_COLOURS)]
        ordered = sorted(points, key=lambda point: point["share"])
        spots = [place(point["share"], point["mean"]) for point in ordered]
        if len(spots) > 1:
            line = Line(points=tuple(spots), colour=colour, width=2)
            lines += [line] if number < 2 else dashes(line, 6, 5)  # what is compared is whole
        for point, (x, y) in zip(ordered, spots, strict=True):
            if point["error"]:
                ends_at = [
                    place(0, min(1.0, max(low, point["mean"] + e)))[1]
                    for e in (-point["error"], point["error"])
                ]
                lines.append(
                    Line(points=((x, ends_at[0]), (x, ends_at[1])), colour=colour, width=1)
                )
            lines.append(Disc(centre=(x, y), radius=4, fill=colour))
        if spots:
            ends.append((spots[len(spots) // 2][1], name, colour))
    names: list[Shape] = []
    y = float(_TOP)
    for _, name, colour in sorted(ends):
        x = _LEFT + _WIDTH + 26
        names.append(Disc(centre=(x, y + 6), radius=4, fill=colour))
        names.append(Text(at=(x + 12, y + 11), text=one_line(name), size=13, colour=INK))
        y += _GAP + 5
    return Scene(
        width=_LEFT + _WIDTH + _NAMES,
        height=_TOP + _HEIGHT + 56,
        title=title,
        description=f"{len(arms)} lines of {one_line(score)} by FLOPs",
        layers=(
            Layer(name="head", shapes=(Text(at=(24, 28), text=one_line(title), size=18),)),
            Layer(name="frame", shapes=tuple(frame)),
            Layer(name="lines", shapes=tuple(lines)),
            Layer(name="names", shapes=tuple(names)),
        ),
    )


def _joined(
    arms: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Put arms of the same points together, so that none hides behind another."""
    found: dict[str, Sequence[Mapping[str, Any]]] = {}
    for name, points in arms.items():
        same = next((known for known, others in found.items() if others == points), None)
        if same is None:
            found[name] = points
        else:
            found = {(f"{k} = {name}" if k == same else k): v for k, v in found.items()}
    return found


def _small(at: tuple[float, float], text: str, anchor: str) -> Text:
    return Text(at=at, text=text, size=12, anchor=anchor, colour=_QUIET)
