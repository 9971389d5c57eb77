"""Rooms with a purpose: office, bathroom, laundry, storage."""

from __future__ import annotations

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.arrange import aside, before, hang, over, rug_near, scatter, small
from sterna.world.houses.place import Site
from sterna.world.houses.placed import Placed


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
