"""Rooms to sit and to eat in."""

from __future__ import annotations

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.arrange import EYE, aside, before, hang, scatter, small
from sterna.world.houses.model import Model
from sterna.world.houses.place import Site
from sterna.world.houses.placed import Placed, rotated


def living_room(site: Site) -> None:
    """Sofa facing the television over a coffee table on a rug; armchair, shelves, plants."""
    dice = site.dice
    if not _sitting_area(site):
        site.against(f.sofa(dice, "small"), 500)
    if dice.chance(45):
        hearth = site.against(f.fireplace(dice), 600, None, "middle")
        scatter(site, hearth, ("candle", "vase", "photo frame", "teapot"), 2)
    for _ in range(dice.between(1, 2)):
        site.against(f.bookshelf(dice, dice.pick(("large", "small"))), 500)
    side = site.against(f.sideboard(dice), 500) if dice.chance(60) else None
    scatter(site, side, ("radio", "vase", "lamp", "photo frame", "candle", "bottle"), 3)
    if dice.chance(25):
        piano = site.against(f.piano(dice), 800)
        if piano is not None:
            before(site, piano, f.stool(dice), 120, 2)
            scatter(site, piano, ("photo frame", "vase", "books"), 1)
    site.against(f.floor_lamp(dice), 0, None, "corner")


def _sitting_area(site: Site) -> bool:
    """Try each wall for the television and put the sofa opposite it."""
    dice = site.dice
    for side in dice.shuffled(range(4)):
        across = site.depth if side % 2 == 0 else site.width
        stand = site.against(f.tv_stand(dice), 700, [side], "middle")
        if stand is None:
            continue
        site.on_top(o.television(dice), stand, tries=20)
        gap = min(across - 420 - 950 - 100, 2600)
        sofa = None
        for size in ("large", "small"):
            for distance in (gap, gap - 300, gap - 600, gap + 400):
                if distance >= 1500 and sofa is None:
                    sofa = before(site, stand, f.sofa(dice, size), distance, 2)
        if sofa is None:
            sofa = site.against(f.sofa(dice, "small"), 500)
        if sofa is None:
            return False
        _around_sofa(site, sofa)
        return True
    return False


def _around_sofa(site: Site, sofa: Placed) -> None:
    dice = site.dice
    rug = None
    if dice.chance(75):
        rug = before(site, sofa, f.rug(dice, 2200, 1400), 40)
    table = before(site, sofa, f.coffee_table(dice), 400, 0, 0, rug)
    if table is None:
        table = before(site, sofa, f.coffee_table(dice), 320, 0, 0, rug)
    scatter(site, table, ("books", "cup", "fruit bowl", "vase", "teapot", "candle", "plate"), 2)
    for sign in dice.shuffled((-1, 1)):
        if dice.chance(70):
            x, y = rotated(sign * (sofa.model.box[3] + 600), 900, sofa.quarter)
            quarter = (sofa.quarter - sign) % 4
            site.at(f.armchair(dice), sofa.x + x, sofa.y + y, quarter, 0, 450)
    for _ in range(dice.between(0, 2)):
        site.on_top(small(site, "cushion"), sofa)
    if dice.chance(60):
        aside(site, sofa, f.floor_lamp(dice), dice.pick((-1, 1)), 60)


def dining_room(site: Site) -> None:
    """Table with chairs and a rug; sideboard, plant, picture."""
    dice = site.dice
    if dining_set(site, "large") is None:
        dining_set(site, "small")
    side = site.against(f.sideboard(dice), 500)
    scatter(site, side, ("vase", "teapot", "bottle", "candle", "fruit bowl", "plate", "radio"), 3)
    if dice.chance(40):
        hang(site, o.mirror(dice, 900, 700), EYE)


def dining_set(site: Site, size: str) -> Placed | None:
    """Stand a table in the room's free middle with its chairs tucked in, laid or decorated."""
    dice = site.dice
    model = f.dining_table(dice, size)
    table = _table_spot(site, model)
    if table is None:
        return None
    for kind in dice.shuffled(("fruit bowl", "vase", "candle", "plate", "cup", "teapot"))[:3]:
        site.on_top(small(site, kind), table)
    return table


def _table_spot(site: Site, model: Model) -> Placed | None:
    """Find a place where a table has room for chairs and people around it."""
    dice = site.dice
    x0, y0, x1, y1 = site.rect
    first = 0 if site.width >= site.depth else 1
    spots = [site.middle]
    if x1 - x0 > 1900 and y1 - y0 > 1900:
        spots += [
            (dice.between(x0 + 900, x1 - 900, 50), dice.between(y0 + 900, y1 - 900, 50))
            for _ in range(24)
        ]
    for x, y in spots:
        for quarter in (first, 1 - first):
            around = Model("room to sit", "brown", "wood").add(model.box[3] * 2 + 200, 1420, 750)
            trial = site.at(around, x, y, quarter)
            if trial is not None:
                site.things.remove(trial)
                w = (model.box[3] * 2 + 400) // 200 * 200
                rug = site.at(f.rug(dice, w, 1800), x, y, quarter) if dice.chance(50) else None
                table = site.on_rug(model, x, y, quarter, rug)
                if table is not None:
                    _chairs(site, table, model.size, rug)
                return table
    return None


def _chairs(site: Site, table: Placed, size: str, rug: Placed | None) -> None:
    """Tuck chairs in on both long sides, looking at the table."""
    chair = f.chair(site.dice)
    shifts = (-560, 0, 560) if size == "large" else (-270, 270)
    for sign in (-1, 1):
        for shift in shifts:
            # The seat reaches 180 mm under the table top; the back stays clear of it.
            x, y = rotated(shift, sign * (450 + 30), table.quarter)
            quarter = (table.quarter + (2 if sign > 0 else 0)) % 4
            site.on_rug(chair, table.x + x, table.y + y, quarter, rug)
