"""Bedrooms, and rooms to play in."""

from __future__ import annotations

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.arrange import aside, over, rug_near, scatter, small
from sterna.world.houses.place import Site
from sterna.world.houses.placed import Placed
from sterna.world.houses.rooms.working import desk_corner


def bedroom(site: Site, single: bool) -> None:
    """Bed with its head to a wall, night tables with lamps, wardrobe, chest of drawers or desk."""
    dice = site.dice
    size = "small" if single else "large"
    bed = site.against(f.bed(dice, size), 0, None, "corner" if single else "middle")
    if bed is None:
        bed = site.against(f.bed(dice, "small"), 0)
    if bed is not None:
        _around_bed(site, bed, single)
    site.against(f.wardrobe(dice, size), 650, None, "corner") or site.against(
        f.wardrobe(dice, "small"), 600
    )
    if single:
        _to_play(site)
    else:
        _to_dress(site)
    if site.width * site.depth > 11_000_000 and dice.chance(60):
        rug_near(site, None)


def _around_bed(site: Site, bed: Placed, single: bool) -> None:
    """Night tables beside the bed, something on it, a picture over it."""
    dice, table = site.dice, f.night_table(site.dice)
    for sign in dice.shuffled((-1, 1))[: 1 if single else 2]:
        placed = aside(site, bed, table, sign, 60)
        if placed is not None:
            site.on_top(small(site, "lamp"), placed)
            scatter(site, placed, ("alarm clock", "books", "cup", "photo frame"), 1)
    if dice.chance(60):
        scatter(site, bed, ("teddy bear", "books", "towels"), 1)
    if dice.chance(80):
        over(site, bed, o.picture(dice, "small" if single else "large"), 1350)


def _to_play(site: Site) -> None:
    """A desk and a chest of toys."""
    dice = site.dice
    desk_corner(site)
    if dice.chance(60):
        chest = site.against(f.toy_chest(dice), 500)
        scatter(site, chest, ("teddy bear", "toy truck", "ball", "toy blocks"), 2)


def _to_dress(site: Site) -> None:
    """A chest of drawers, perhaps under a mirror, and an armchair."""
    dice = site.dice
    chest = site.against(f.dresser(dice), 600)
    scatter(site, chest, ("lamp", "photo frame", "vase", "books", "alarm clock", "candle"), 3)
    if chest is not None and dice.chance(60):
        over(site, chest, o.mirror(dice, 700, 900), 1150)
    if dice.chance(35):
        site.against(f.armchair(dice), 450, None, "corner")


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
