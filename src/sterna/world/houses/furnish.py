"""Which things stand in which room, and where people would look for them."""

from __future__ import annotations

from collections.abc import Callable

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.arrange import (
    aside,
    before,
    hang,
    light,
    over,
    rug_near,
    scatter,
    small,
)
from sterna.world.houses.model import Model
from sterna.world.houses.paint import Paint
from sterna.world.houses.place import Placed, Site

EYE = 1550  # height at which the middle of a picture hangs


def furnish(site: Site, kind: str, single: bool, dines: bool) -> None:
    """Furnish a room; `single` beds for children and guests, `dines` puts the dining set here."""
    rules: dict[str, Callable[[Site], None]] = {
        "living room": living_room,
        "dining room": dining_room,
        "kitchen": kitchen,
        "bathroom": bathroom,
        "office": office,
        "laundry room": laundry,
        "storage room": storage,
        "playroom": playroom,
        "hall": hall,
        "corridor": corridor,
    }
    light(site, hanging=kind in ("dining room", "kitchen", "living room"))
    if kind == "bedroom":
        bedroom(site, single)
    else:
        rules[kind](site)
    if dines and kind != "dining room":
        dining_set(site, "small")
    finish(site, kind)


def bedroom(site: Site, single: bool) -> None:
    """Bed with its head to a wall, night tables with lamps, wardrobe, chest of drawers or desk."""
    dice = site.dice
    bed = site.against(
        f.bed(dice, "small" if single else "large"), 0, None, "corner" if single else "middle"
    )
    if bed is None:
        bed = site.against(f.bed(dice, "small"), 0)
    if bed is not None:
        _beside_bed(site, bed, single)
        if dice.chance(60):
            scatter(site, bed, ("teddy bear", "books", "towels"), 1)
        if dice.chance(80):
            over(site, bed, o.picture(dice, "large" if not single else "small"), 1350)
    site.against(
        f.wardrobe(dice, "small" if single else "large"), 650, None, "corner"
    ) or site.against(f.wardrobe(dice, "small"), 600)
    if single:
        desk_corner(site)
        if dice.chance(60):
            chest = site.against(f.toy_chest(dice), 500)
            scatter(site, chest, ("teddy bear", "toy truck", "ball", "toy blocks"), 2)
    else:
        chest = site.against(f.dresser(dice), 600)
        scatter(site, chest, ("lamp", "photo frame", "vase", "books", "alarm clock", "candle"), 3)
        if chest is not None and dice.chance(60):
            over(site, chest, o.mirror(dice, 700, 900), 1150)
        if dice.chance(35):
            site.against(f.armchair(dice), 450, None, "corner")
    if site.width * site.depth > 11_000_000 and dice.chance(60):
        rug_near(site, None)


def _beside_bed(site: Site, bed: Placed, single: bool) -> None:
    dice, stand = site.dice, f.night_table(site.dice)
    for sign in dice.shuffled((-1, 1))[: 1 if single else 2]:
        table = aside(
            site,
            bed,
            Model(stand.kind, stand.colour, stand.material, "", stand.parts, stand.tops),
            sign,
            60,
        )
        if table is not None:
            site.on_top(small(site, "lamp"), table)
            scatter(site, table, ("alarm clock", "books", "cup", "photo frame"), 1)


def desk_corner(site: Site, screen: str = "laptop") -> Placed | None:
    """Desk at a wall with chair, lamp and what people work with; bin beside it."""
    dice = site.dice
    desk = site.against(f.desk(dice), 800)
    if desk is None:
        return None
    before(site, desk, f.desk_chair(dice), -160, 2, -110)
    for kind in (screen, "lamp"):
        site.on_top(small(site, kind), desk)
    if screen != "laptop":
        site.on_top(small(site, "keyboard"), desk)
    scatter(site, desk, ("books", "cup", "photo frame", "telephone", "globe", "potted plant"), 2)
    if dice.chance(70):
        aside(site, desk, f.bin_(dice), dice.pick((-1, 1)), 60)
    return desk


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
            chair = f.armchair(dice)
            x = sign * (sofa.model.box[3] + 600)
            y = 900
            for _ in range(sofa.quarter):
                x, y = y, -x
            site.at(
                chair, sofa.x + x, sofa.y + y, (sofa.quarter + (3 if sign > 0 else 1)) % 4, 0, 450
            )
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
    spots = [((x0 + x1) // 20 * 10, (y0 + y1) // 20 * 10)]
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
            x, y = shift, sign * (450 + 30)
            for _ in range(table.quarter):
                x, y = y, -x
            quarter = (table.quarter + (2 if sign > 0 else 0)) % 4
            copy = Model(chair.kind, chair.colour, chair.material, "", chair.parts, chair.tops)
            site.on_rug(copy, table.x + x, table.y + y, quarter, rug)


def kitchen(site: Site) -> None:
    """Counter run along a wall: fridge, sink, stove, dishwasher; cabinets and hood over it."""
    dice = site.dice
    paint = Paint(
        dice.pick(("white", "white", "brown", "blue", "green", "grey", "red", "beige")), "wood"
    )
    sides = sorted(
        dice.shuffled(range(4)),
        key=lambda s: -(_free_length(site, s)[1] - _free_length(site, s)[0]),
    )
    run: list[Placed] = []
    for side in sides:
        things, reach = len(site.things), len(site.reach)
        run = _counter_run(site, side, paint)
        if {"stove", "kitchen sink"} <= {p.model.kind for p in run}:
            break
        del site.things[things:], site.reach[reach:]
        run = []
    if not any(p.model.kind == "fridge" for p in site.things):
        site.against(f.fridge(dice), 600, None, "corner") or site.against(f.fridge(dice), 500)
    stuff = dice.shuffled(
        (
            "kettle",
            "toaster",
            "microwave",
            "coffee machine",
            "cutting board",
            "knife block",
            "fruit bowl",
            "jar",
            "bottle",
            "plate",
            "cup",
            "teapot",
        )
    )
    tops = [p for p in run if p.model.kind in ("kitchen counter", "dishwasher")]
    for kind in ("kettle", "toaster", *[s for s in stuff if s not in ("kettle", "toaster")][:4]):
        for top in dice.shuffled(tops):
            if site.on_top(small(site, kind), top) is not None:
                break
    for p in run:
        if p.model.kind == "stove" and dice.chance(70):
            site.on_top(small(site, "pan"), p)
    site.against(f.bin_(dice), 0)


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


def bathroom(site: Site) -> None:
    """Toilet, basin under a mirror, bath or shower; towels, basket, mat."""
    dice = site.dice
    bath = site.against(f.bathtub(dice), 450, None, "corner") if dice.chance(60) else None
    if bath is None:
        bath = site.against(f.shower(dice), 500, None, "corner")
    basin = site.against(f.basin(dice), 500)
    if basin is not None:
        over(site, basin, o.mirror(dice, 600, 800), 1200)
    site.against(f.toilet(dice), 450, None, "any", tries=24)
    hang(site, o.towel_rail(dice), 1100)
    if dice.chance(60):
        site.against(f.basket(dice, dice.pick(("small", "large"))), 0, None, "corner")
    if dice.chance(40):
        stool = site.against(f.stool(dice), 0)
        if stool is not None:
            site.on_top(small(site, "soap bottle"), stool)
    shelf = hang(site, o.wall_shelf(dice), 1300) if dice.chance(70) else None
    scatter(site, shelf, ("soap bottle", "candle", "jar", "potted plant"), 3)
    target = bath or basin
    if target is not None and dice.chance(70):
        before(site, target, f.rug(dice, 900, 600), 40)


def office(site: Site) -> None:
    """Desk with computer, shelves, filing cabinet, printer."""
    dice = site.dice
    desk_corner(site, "computer screen") or desk_corner(site)
    site.against(f.bookshelf(dice, "large"), 500, None, "any") or site.against(
        f.bookshelf(dice, "small"), 450
    )
    cabinet = site.against(f.filing_cabinet(dice), 500)
    scatter(site, cabinet, ("printer",), 1)
    if dice.chance(60):
        site.against(f.armchair(dice), 450, None, "corner")
    if dice.chance(50):
        rug_near(site, None)


def laundry(site: Site) -> None:
    """Washing machine and dryer side by side, basket beside them, ironing board, shelf."""
    dice = site.dice
    washer = site.against(f.washer(dice, "washing machine"), 600, None, "corner")
    if washer is not None:
        if dice.chance(70):
            for sign in dice.shuffled((-1, 1)):
                if aside(site, washer, f.washer(dice, "dryer"), sign, 20, 500) is not None:
                    break
        scatter(site, washer, ("detergent", "towels", "jar"), 2)
    size = dice.pick(("large", "small"))
    neighbours = [p for p in site.things if p.model.kind in ("dryer", "washing machine")]
    placed = None
    for machine in neighbours:
        for sign in (-1, 1):
            placed = placed or aside(site, machine, f.basket(dice, size), sign, 40)
    if placed is None:
        site.against(f.basket(dice, size), 0)
    if dice.chance(60):
        board = site.against(f.ironing_board(dice), 0)
        scatter(site, board, ("iron",), 1)
    shelf = site.against(f.metal_shelf(dice), 450)
    scatter(site, shelf, ("detergent", "towels", "bottle", "iron", "jar"), 4)
    if dice.chance(50):
        site.against(f.bucket(dice), 0)


def storage(site: Site) -> None:
    """Shelves of tools and tins, boxes, suitcase, vacuum cleaner."""
    dice = site.dice
    for _ in range(2):
        shelf = site.against(f.metal_shelf(dice), 450)
        scatter(
            site,
            shelf,
            ("toolbox", "paint can", "watering can", "jar", "detergent", "bottle", "radio"),
            5,
        )
    for _ in range(dice.between(1, 3)):
        box = site.against(
            f.cardboard_box(dice, dice.pick(("large", "small"))), 0, None, "any", tries=8
        )
        if box is not None and box.model.tops and dice.chance(50):
            site.on_top(f.cardboard_box(dice, "small"), box)
    for make in (f.suitcase, f.vacuum, f.bucket):
        if dice.chance(65):
            site.against(make(dice), 0)


def playroom(site: Site) -> None:
    """Play house, toys, a small shelf, a rug."""
    dice = site.dice
    site.against(f.play_tent(dice), 600, None, "corner")
    chest = site.against(f.toy_chest(dice), 500)
    scatter(site, chest, ("teddy bear", "toy truck", "doll house", "ball", "toy blocks"), 2)
    site.against(f.bookshelf(dice, "small"), 500)
    shelf = site.against(f.dresser(dice), 500)
    scatter(site, shelf, ("doll house", "globe", "books", "teddy bear"), 2)
    desk_corner(site) if dice.chance(40) else site.against(f.armchair(dice), 450)
    rug_near(site, None)
    for kind in ("toy truck", "ball", "toy blocks"):
        x0, y0, x1, y1 = site.rect
        for _ in range(6):
            x, y = dice.between(x0 + 300, x1 - 300, 10), dice.between(y0 + 300, y1 - 300, 10)
            if site.at(small(site, kind), x, y, dice.below(4)):
                break


def hall(site: Site) -> None:
    """Coats, shoes, mirror, console, umbrella stand."""
    dice = site.dice
    bench = site.against(f.shoe_bench(dice), 450) if dice.chance(80) else None
    if bench is None or over(site, bench, o.coat_hooks(dice), 850) is None:
        site.against(f.coat_rack(dice), 0, None, "corner")
    table = site.against(f.console(dice), 450)
    scatter(site, table, ("telephone", "vase", "lamp", "photo frame", "books"), 2)
    if table is not None:
        over(site, table, o.mirror(dice, 600, 900), 1150)
    site.against(f.umbrella_stand(dice), 0)
    if dice.chance(40):
        rug_near(site, None)


def corridor(site: Site) -> None:
    """A console, a chair or a plant where they leave the way free; pictures follow."""
    dice = site.dice
    for _ in range(dice.between(1, 2)):
        table = site.against(f.console(dice), 0, None, "any", tries=10)
        scatter(site, table, ("vase", "lamp", "photo frame", "books", "telephone"), 2)
        if table is not None and dice.chance(70):
            over(site, table, o.mirror(dice, 600, 900), 1150)
    if dice.chance(60):
        x0, y0, x1, y1 = site.rect
        along = 0 if site.width > site.depth else 1
        length = max(site.width, site.depth)
        rug = f.rug(dice, min(length - 800, 3000) // 200 * 200, 700)
        site.at(rug, (x0 + x1) // 20 * 10, (y0 + y1) // 20 * 10, along)


PICTURES = {
    "living room": 3,
    "dining room": 2,
    "bedroom": 2,
    "corridor": 3,
    "office": 2,
    "hall": 1,
    "playroom": 2,
    "kitchen": 1,
}
PLANTS = {
    "living room": 2,
    "dining room": 1,
    "office": 1,
    "bedroom": 1,
    "corridor": 1,
    "hall": 1,
    "bathroom": 1,
}


def finish(site: Site, kind: str) -> None:
    """Hang pictures and a clock, put plants in corners, radiators under windows."""
    dice = site.dice
    for side, low, high, sill in site.windows:
        if sill >= 750 and kind != "kitchen" and dice.chance(60):
            x, y = site.spot(f.radiator(dice), side, (low + high) // 20 * 10)
            site.at(f.radiator(dice), x, y, (side + 2) % 4)
    for _ in range(dice.between(0, PLANTS.get(kind, 0))):
        site.against(f.floor_plant(dice, dice.pick(("large", "small"))), 0, None, "corner")
    for _ in range(PICTURES.get(kind, 0)):
        if dice.chance(75):
            hang(site, o.picture(dice, dice.pick(("large", "small", "small"))), EYE)
    if kind in ("kitchen", "living room", "office", "playroom", "dining room") and dice.chance(45):
        hang(site, o.wall_clock(dice), 1900)
