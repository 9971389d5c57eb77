"""Where things stand to each other: on, over, beside and in front."""

from __future__ import annotations

from collections.abc import Sequence

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.model import Model
from sterna.world.houses.place import Site
from sterna.world.houses.placed import Placed, rotated

EYE = 1550  # height at which the middle of a picture hangs


def light(site: Site, hanging: bool) -> None:
    """Hang the room's lamp from the middle of the ceiling."""
    model = o.ceiling_lamp(site.dice, "hanging" if hanging and site.dice.chance(60) else "flat")
    z = site.ceiling - site.floor - model.box[5]
    site.at(model, *site.middle, 0, z)


def small(site: Site, kind: str) -> Model:
    """Return a small object of a kind."""
    return o.SMALL[kind](site.dice)


def scatter(site: Site, support: Placed | None, kinds: Sequence[str], count: int) -> None:
    """Stand a few of these kinds on a surface."""
    if support is not None:
        for kind in site.dice.shuffled(kinds)[:count]:
            site.on_top(small(site, kind), support)


def hang(
    site: Site, model: Model, height: int, sides: Sequence[int] | None = None
) -> Placed | None:
    """Hang a thing on a wall with its middle at a height over the floor."""
    z = height - (model.box[5] + model.box[2]) // 2
    return site.against(model, 0, sides, "any", z, tries=20)


def over(site: Site, below: Placed, model: Model, z: int) -> Placed | None:
    """Hang a thing on the wall behind another, over its middle."""
    side = (below.quarter + 2) % 4
    along = (
        (below.box[0] + below.box[3]) // 2 if side % 2 == 0 else (below.box[1] + below.box[4]) // 2
    )
    x, y = site.spot(model, side, along)
    return site.at(model, x, y, below.quarter, z)


def aside(
    site: Site, base: Placed, model: Model, sign: int, gap: int = 0, front: int = 0
) -> Placed | None:
    """Stand a thing beside another, backs in one line; sign -1 left, +1 right (from behind)."""
    half = (base.model.box[3] - base.model.box[0]) // 2
    along = sign * (half + gap) - (model.box[0] if sign > 0 else model.box[3])
    x, y = rotated(along, base.model.box[1] - model.box[1], base.quarter)
    return site.at(model, base.x + x, base.y + y, base.quarter, base.z - site.floor, front)


def before(
    site: Site,
    base: Placed,
    model: Model,
    gap: int,
    turn: int = 0,
    shift: int = 0,
    rug: Placed | None = None,
) -> Placed | None:
    """Stand a thing in front of another, `gap` mm away (negative: tucked in)."""
    edge = -model.box[1] if turn % 4 == 0 else model.box[4]
    x, y = rotated(shift, base.model.box[4] + gap + edge, base.quarter)
    return site.on_rug(model, base.x + x, base.y + y, (base.quarter + turn) % 4, rug)


def rug_near(site: Site, thing: Placed | None) -> None:
    """Lay a rug under the front of a thing, or where there is room."""
    for w, d in ((2400, 1600), (1800, 1200), (1400, 900)):
        rug = f.rug(site.dice, w, d)
        if thing is not None and before(site, thing, rug, 100) is not None:
            return
        if site.at(rug, *site.middle, site.dice.below(2)) is not None:
            return
