"""What a report shows, as plain values: the page's script reads them as JSON.

Metres; x east, y north; headings in radians clockwise from north. Images are data URIs.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One line of the table; `cells` are texts under `Report.columns`."""

    name: str
    cells: tuple[str, ...]
    control: bool = False
    """Greyed: there for comparison."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A learning curve: (seconds of training, score in percent) on the selection split."""

    name: str
    colour: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A storey from above, north up: its image covers width x height metres from its corner."""

    image: str
    west: float
    north: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A scan's graph: `nodes` (x, y, storey) and `edges` by node number; floors where drawn."""

    nodes: tuple[tuple[float, float, int], ...]
    edges: tuple[tuple[int, int], ...]
    floors: tuple[Floor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision: where it stands, what it looked at, what it could do.

    `options` are (node, chance, heading) of places to go, the heading None where it is no
    neighbour; `choice` is a node, or -1 for stopping.
    `views` is the attention to each of the 36 views or of the 12 level ones (empty: unknown),
    `words` that to each piece of the instruction.
    """

    node: int
    heading: float
    options: tuple[tuple[int, float, float | None], ...]
    stop: float
    choice: int
    views: tuple[float, ...] = ()
    words: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Walked:
    """A walk: its name, colour, decisions, all nodes passed, and how it was scored."""

    name: str
    colour: str
    decisions: tuple[Decision, ...]
    path: tuple[int, ...]
    """All nodes in order, also those passed on the way to a place further off."""
    reached: tuple[int, ...]
    """For each decision, how many nodes of `path` were walked when it was made."""
    success: bool
    error: float
    """Geodesic metres from its end to the goal."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An episode to step through; `pieces` are the instruction's words as the policies read it."""

    name: str
    scan: str
    split: str
    pieces: tuple[str, ...]
    reference: tuple[int, ...]
    goals: tuple[int, ...]
    walks: tuple[Walked, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole page.

    `plans` by scan; `strips` by "scan/node": a picture of all around, north in the middle, 90
    degrees high.
    """

    title: str
    lead: str
    columns: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    notes: tuple[str, ...]
    curves: tuple[Curve, ...]
    score: str
    """What the curves measure."""
    episodes: tuple[Shown, ...]
    plans: dict[str, Plan]
    strips: dict[str, str] = field(default_factory=dict)
    foot: str = ""


def data_uri(image: Image.Image, kind: str = "JPEG", quality: int = 82) -> str:
    """Return a picture as a data URI."""
    buffer = io.BytesIO()
    if kind == "JPEG":
        image.convert("RGB").save(buffer, kind, quality=quality, optimize=True)
    else:
        image.save(buffer, kind, optimize=True)
    coded = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{coded}"
