"""The kitchen: one run of counters along a wall."""

from __future__ import annotations

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.arrange import over, small
from sterna.world.houses.model import Model
from sterna.world.houses.paint import Paint
from sterna.world.houses.place import Site
from sterna.world.houses.placed import Placed

ON_COUNTERS = (
    "kettle", "toaster", "microwave", "coffee machine", "cutting board", "knife block",
    "fruit bowl", "jar", "bottle", "plate", "cup", "teapot",
)  # fmt: skip


def kitchen(site: Site) -> None:
    """Counter run along a wall: fridge, sink, stove, dishwasher; cabinets and hood over it."""
    dice = site.dice
    paint = Paint(
        dice.pick(("white", "white", "brown", "blue", "green", "grey", "red", "beige")), "wood"
    )
    run = _along_a_wall(site, paint)
    if not any(p.model.kind == "fridge" for p in site.things):
        site.against(f.fridge(dice), 600, None, "corner") or site.against(f.fridge(dice), 500)
    _on_counters(site, run)
    for p in run:
        if p.model.kind == "stove" and dice.chance(70):
            site.on_top(small(site, "pan"), p)
    site.against(f.bin_(dice), 0)


def _along_a_wall(site: Site, paint: Paint) -> list[Placed]:
    """Lay the counter run along the wall with most room that takes a stove and a sink."""

    def room(side: int) -> int:
        low, high = _free_length(site, side)
        return high - low

    for side in sorted(site.dice.shuffled(range(4)), key=lambda side: -room(side)):
        things, reach = len(site.things), len(site.reach)
        run = _counter_run(site, side, paint)
        if {"stove", "kitchen sink"} <= {p.model.kind for p in run}:
            return run
        del site.things[things:], site.reach[reach:]
    return []


def _on_counters(site: Site, run: list[Placed]) -> None:
    """Stand kettle, toaster and four things more on the counters."""
    dice = site.dice
    more = [kind for kind in dice.shuffled(ON_COUNTERS) if kind not in ("kettle", "toaster")]
    tops = [p for p in run if p.model.kind in ("kitchen counter", "dishwasher")]
    for kind in ("kettle", "toaster", *more[:4]):
        for top in dice.shuffled(tops):
            if site.on_top(small(site, kind), top) is not None:
                break


def _free_length(site: Site, side: int) -> tuple[int, int]:
    """Return the longest stretch of a wall without doors."""
    low, high = (site.rect[0], site.rect[2]) if side % 2 == 0 else (site.rect[1], site.rect[3])
    stops = sorted((a, b) for s, a, b in site.doors if s == side)
    stretches, place = [], low
    for a, b in stops:
        stretches.append((place, a - 100))
        place = b + 100
    stretches.append((place, high))
    return max(stretches, key=lambda s: s[1] - s[0])


def _counter_run(site: Site, side: int, paint: Paint) -> list[Placed]:
    """Lay units side by side along a wall's longest free stretch; empty if it is too short."""
    dice = site.dice
    low, high = _free_length(site, side)
    low, high = low + 20, high - 20
    length = (high - low) // 20 * 20
    if length < 1800:
        return []
    first = 600 if length >= 2000 else 400
    units: list[Model] = [f.sink(dice, 800, paint), f.counter(dice, first, paint), f.stove(dice)]
    rest = length - 1400 - first
    if rest >= 1300:
        units.append(f.dishwasher(dice))
        rest -= 600
    if rest >= 700:
        units.append(f.fridge(dice))
        rest -= 620
    rest = min(rest // 20 * 20, 1600)
    if rest >= 300:
        units.insert(1, f.counter(dice, rest, paint))
    order = [u for u in units if u.kind != "fridge"]
    fridge = [u for u in units if u.kind == "fridge"]
    units = fridge + order if dice.chance(50) else order + fridge
    return _lay(site, side, units, low, high, paint)


def _lay(
    site: Site, side: int, units: list[Model], low: int, high: int, paint: Paint
) -> list[Placed]:
    total = sum(u.box[3] - u.box[0] for u in units)
    along = low if site.dice.chance(50) else high - total
    out: list[Placed] = []
    for unit in units:
        w = unit.box[3] - unit.box[0]
        x, y = site.spot(unit, side, along + w // 2)
        placed = site.at(unit, x, y, (side + 2) % 4, 0, 500)
        along += w
        if placed is None:
            continue
        out.append(placed)
        if unit.kind == "stove":
            over(site, placed, o.hood(site.dice), 1500)
        elif unit.kind in ("kitchen counter", "dishwasher"):
            over(site, placed, o.wall_cabinet(site.dice, w, paint), 1450)
    return out
