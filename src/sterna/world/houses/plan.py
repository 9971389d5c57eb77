"""Floor plans: which rooms lie where, in whole millimetres along the centre lines of walls.

A house is a living block (living room, dining room, kitchen) beside a wing: a corridor with rooms
on both sides, one of them the hall with the front door. An upper storey repeats the wing, and
covers the living block where the outlines agree. Mirroring and turning make eight of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from sterna.world.houses.dice import Dice

Rect = tuple[int, int, int, int]

STEP = 100  # rooms grow in steps of 10 cm
LEAST_AREA, MOST_AREA = 120, 300  # square metres
LEAST_ROOMS, MOST_ROOMS = 6, 16
STAIRWELL = 2200  # two flights of 1 m, the wall between and half walls
FLIGHT_TREADS, TREAD, LANDING = 7, 250, 1000

# Widths along the corridor: least and most.
WIDTHS = {
    "hall": (2000, 2800),
    "bedroom": (2900, 4400),
    "bathroom": (2100, 2900),
    "office": (2500, 3500),
    "laundry room": (1900, 2600),
    "storage room": (1500, 2400),
    "playroom": (2900, 4200),
    "stairwell": (STAIRWELL, STAIRWELL),
}


@dataclass(frozen=True)
class Space:
    """A room to be: its kind and its rectangles between centre lines; `well` is the stairwell."""

    kind: str
    storey: int
    rects: tuple[Rect, ...]
    well: int | None = None


@dataclass
class Draft:
    """A plan in the making; the wing lies along x, the living block at its west end."""

    dice: Dice
    storeys: int
    south: int  # depth of the southern strip
    corridor: int  # width of the corridor
    north: int
    length: int = 0  # of the wing
    block: int = 0  # width of the living block
    spaces: list[Space] = field(default_factory=list)
    well: tuple[int, int] | None = None  # x of the stairwell

    @property
    def band(self) -> tuple[int, int]:
        """Return the y of the corridor's two sides."""
        return self.south, self.south + self.corridor

    @property
    def depth(self) -> int:
        """Return the depth of the wing."""
        return self.south + self.corridor + self.north


def draw_plan(dice: Dice) -> tuple[list[Space], int]:
    """Return the rooms of a house and its number of storeys; tries until one fits the limits."""
    storeys = 2 if dice.chance(45) else 1
    least = dice.between(LEAST_AREA, 170 if storeys == 1 else 230)
    while True:
        draft = _draft(dice, storeys)
        if draft is None:
            continue
        area = sum((x1 - x0) * (y1 - y0) for s in draft.spaces for x0, y0, x1, y1 in s.rects)
        # Walls take about a tenth of what their centre lines enclose.
        if not least * 1.12 <= area / 1e6 <= MOST_AREA * 1.02:
            continue
        if LEAST_ROOMS <= len(draft.spaces) <= MOST_ROOMS:
            return _turned(dice, draft.spaces), draft.storeys


def _draft(dice: Dice, storeys: int) -> Draft | None:
    draft = Draft(
        dice,
        storeys,
        south=dice.between(3300, 4300, STEP),
        corridor=dice.between(1400, 1800, STEP),
        north=dice.between(3800 if storeys == 2 else 3300, 4300, STEP),
    )
    if not _wing(draft) or not _living_block(draft):
        return None
    if storeys == 2 and not _upper(draft):
        return None
    return draft


def _wing(draft: Draft) -> bool:
    """Cut the ground floor's strips into rooms; the hall stands in the southern one."""
    dice = draft.dice
    rooms = _programme(dice, draft.storeys)
    south, north = ["hall"], ["stairwell"] if draft.storeys == 2 else []
    for kind in dice.shuffled(rooms):
        shorter = south if _middle(south) <= _middle(north) else north
        shorter.append(kind)
    low = max(_bounds(south)[0], _bounds(north)[0])
    high = min(_bounds(south)[1], _bounds(north)[1])
    if not north or low > high:
        return False
    draft.length = dice.between(low, high, STEP)
    if len(south) > 1 and dice.chance(40):  # the hall need not lie beside the living block
        south[0], south[1:] = south[1], [south[0], *south[2:]]
    if "stairwell" in north and len(north) > 1 and dice.chance(70):
        north[0], north[1] = north[1], north[0]
    ends = _strip(draft, south, 0, 0, draft.length, 0)
    tops = _strip(draft, north, 0, 0, draft.length, 1)
    return ends and tops and _corridor(draft, 0, 0, draft.length)


def _programme(dice: Dice, storeys: int) -> list[str]:
    if storeys == 2:
        rooms = ["bathroom"]
        odds = (("office", 70), ("laundry room", 80), ("storage room", 50), ("bedroom", 45))
    else:
        bedrooms = dice.between(1, 4)
        rooms = ["bedroom"] * bedrooms + ["bathroom"]
        odds = (("office", 65), ("laundry room", 80), ("storage room", 45), ("playroom", 25))
        if bedrooms > 2:
            rooms.append("bathroom")
    return rooms + [kind for kind, percent in odds if dice.chance(percent)]


def _bounds(kinds: Sequence[str]) -> tuple[int, int]:
    return sum(WIDTHS[k][0] for k in kinds), sum(WIDTHS[k][1] for k in kinds)


def _middle(kinds: Sequence[str]) -> int:
    return sum(_bounds(kinds)) // 2


def _share(dice: Dice, kinds: Sequence[str], length: int) -> list[int]:
    """Return widths within limits that add up to a length."""
    widths = [WIDTHS[k][0] for k in kinds]
    while sum(widths) < length:
        i = dice.below(len(kinds))
        if widths[i] < WIDTHS[kinds[i]][1]:
            widths[i] += STEP
    return widths


def _strip(draft: Draft, kinds: list[str], storey: int, x0: int, x1: int, side: int) -> bool:
    """Lay rooms of a strip side by side from x0 to x1; side 0 is south, 1 north of the corridor."""
    y0, y1 = ((0, draft.south), (draft.band[1], draft.depth))[side]
    low, high = _bounds(kinds)
    if not low <= x1 - x0 <= high:
        return False
    x = x0
    for kind, width in zip(kinds, _share(draft.dice, kinds, x1 - x0), strict=True):
        if kind == "stairwell":
            draft.well = (x, x + width)
        else:
            draft.spaces.append(Space(kind, storey, ((x, y0, x + width, y1),)))
        x += width
    return True


def _corridor(draft: Draft, storey: int, x0: int, x1: int) -> bool:
    """Add the corridor and its stairwell; now and then an end room reaches around its far end."""
    y0, y1 = draft.band
    last = [s for s in draft.spaces if s.storey == storey and s.rects[0][2] == x1]
    if draft.storeys == 1 and len(last) == 2 and draft.dice.chance(50):
        grown, other = draft.dice.shuffled(last)
        rx0, ry0, rx1, ry1 = grown.rects[0]
        if grown.kind in ("bedroom", "playroom") and other.rects[0][0] <= rx0 - 1200:
            around = (rx0, min(ry0, y0), rx1, max(ry1, y1))
            draft.spaces[draft.spaces.index(grown)] = replace(grown, rects=(around,))
            x1 = rx0
    rects: tuple[Rect, ...] = ((x0, y0, x1, y1),)
    if draft.well is not None:
        rects = (*rects, (draft.well[0], y1, draft.well[1], draft.depth))
    draft.spaces.append(Space("corridor", storey, rects, 1 if draft.well else None))
    return True


def _living_block(draft: Draft) -> bool:
    """Put living room, dining room and kitchen west of the wing, stacked or two side by side."""
    dice = draft.dice
    draft.block = dice.between(4800, 7000, STEP)
    shift = (0, 0) if dice.chance(40) else (-dice.between(0, 1600, 200), dice.between(0, 1600, 200))
    y0, y1 = shift[0], draft.depth + shift[1]
    cuts = _cuts(draft, y0, y1)
    if cuts is None:
        return False
    if len(cuts) == 4:
        _stacked(draft, cuts)
    else:
        _beside(draft, cuts)
    return True


def _stacked(draft: Draft, cuts: list[int]) -> None:
    """Three rooms across the block, the dining room between, the living room the deeper end."""
    names = ["living room", "dining room", "kitchen"]
    if cuts[1] - cuts[0] < cuts[3] - cuts[2]:
        names.reverse()
    for name, (low, high) in zip(names, pairwise(cuts), strict=True):
        draft.spaces.append(Space(name, 0, ((-draft.block, low, 0, high),)))


def _beside(draft: Draft, cuts: list[int]) -> None:
    """Two strips: the living room in the deeper one, kitchen and dining room share the other."""
    dice, x0 = draft.dice, -draft.block
    deep, other = sorted(pairwise(cuts), key=lambda part: part[0] - part[1])
    draft.spaces.append(Space("living room", 0, ((x0, deep[0], 0, deep[1]),)))
    low, high = other
    pair = dice.shuffled(["kitchen", "dining room"])
    if draft.block >= 6000:
        middle = x0 + dice.between(3000, draft.block - 3000, STEP)
        draft.spaces.append(Space(pair[0], 0, ((x0, low, middle, high),)))
        draft.spaces.append(Space(pair[1], 0, ((middle, low, 0, high),)))
    else:
        draft.spaces.append(Space("kitchen", 0, ((x0, low, 0, high),)))


def _cuts(draft: Draft, y0: int, y1: int) -> list[int] | None:
    """Return y of the walls across the living block, none of them against the corridor's end."""
    b0, b1 = draft.band
    free = [y for y in range(y0, y1 + 1, STEP) if y <= b0 or y >= b1]
    for _ in range(40):
        pieces = 3 if y1 - y0 >= 10200 else 2
        inner = sorted(draft.dice.pick(free) for _ in range(pieces - 1))
        sizes = sorted(b - a for a, b in zip([y0, *inner], [*inner, y1], strict=True))
        least = [3100, 3100, 3900] if pieces == 3 else [3300, 4000]
        if all(size >= low for size, low in zip(sizes, least, strict=True)):
            cuts = [y0, *inner, y1]
            if pieces == 2 or max(cuts[1] - cuts[0], cuts[3] - cuts[2]) >= 3900:
                return cuts
    return None


def _upper(draft: Draft) -> bool:
    """Lay out the upper storey around the stairwell."""
    dice, well = draft.dice, draft.well
    assert well is not None
    block = [s.rects[0] for s in draft.spaces if s.rects[0][0] < 0]
    flush = min(r[1] for r in block) == 0 and max(r[3] for r in block) == draft.depth
    x0 = -draft.block if flush else 0
    stock = ["bedroom"] * 3 + ["bathroom", "bathroom", "office", "storage room", "playroom"]
    sections = [(x0, draft.length, 0), (x0, well[0], 1), (well[1], draft.length, 1)]
    for a, b, side in sections:
        kinds = _choice(dice, stock, b - a)
        if kinds is None or not _strip(draft, kinds, 1, a, b, side):
            return False
        for kind in kinds:
            stock.remove(kind)
    upper = [s.kind for s in draft.spaces if s.storey == 1]
    if "bedroom" not in upper or "bathroom" not in upper:
        return False
    return _corridor(draft, 1, x0, draft.length)


def _choice(dice: Dice, stock: list[str], length: int) -> list[str] | None:
    """Return rooms from stock that fill a length, bedrooms and bathrooms first; None if none do."""
    if length == 0:
        return []
    for count in (3, 2, 4, 1, 5):
        for _ in range(12):
            kinds = dice.shuffled(stock)[:count]
            low, high = _bounds(kinds)
            if low <= length <= high:
                return kinds
    return None


def _turned(dice: Dice, spaces: list[Space]) -> list[Space]:
    """Mirror and turn a plan at random, and move its south-west corner to (0, 0)."""
    flip_x, flip_y, swap = dice.chance(50), dice.chance(50), dice.chance(50)

    def turn(rect: Rect) -> Rect:
        x0, y0, x1, y1 = rect
        if flip_x:
            x0, x1 = -x1, -x0
        if flip_y:
            y0, y1 = -y1, -y0
        return (y0, x0, y1, x1) if swap else (x0, y0, x1, y1)

    turned = [replace(s, rects=tuple(map(turn, s.rects))) for s in spaces]
    dx = min(r[0] for s in turned for r in s.rects)
    dy = min(r[1] for s in turned for r in s.rects)
    return [
        replace(s, rects=tuple((a - dx, b - dy, c - dx, d - dy) for a, b, c, d in s.rects))
        for s in turned
    ]
