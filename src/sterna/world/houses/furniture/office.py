"""Furniture to work at, and shelves."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, STEEL, Model, wooden
from sterna.world.houses.paint import Paint


def desk(dice: Dice) -> Model:
    """Return a desk with drawers at one side; people sit at its front."""
    m = wooden(dice, "desk").add(1400, 700, 40, 0, 0, 710)
    m.add(380, 640, 700, 480, 0, 10).add(40, 640, 710, -670, 0, 0)
    for i in range(3):
        m.add(340, 12, 190, 480, 326, 60 + 215 * i, Paint(m.colour, "wood", pattern=1))
    return m.top(1380, 660, 750)


def desk_chair(dice: Dice) -> Model:
    """Return a swivel chair."""
    m = Model("desk chair", dice.pick(("black", "grey", "blue", "red", "green")), "fabric")
    m.add(560, 60, 80, 0, 0, 0, BLACK).add(60, 560, 80, 0, 0, 0, BLACK)
    m.add(60, 60, 380, 0, 0, 80, STEEL).add(480, 480, 70, 0, 0, 460)
    return m.add(440, 60, 520, 0, -210, 560)


def bookshelf(dice: Dice, size: str) -> Model:
    """Return shelves full of books."""
    w = 1200 if size == "large" else 800
    m = wooden(dice, "bookshelf", size).add(w, 20, 1900, 0, -150)
    for x in (-w // 2 + 15, w // 2 - 15):
        m.add(30, 300, 1900, x, 10)
    for i in range(6):
        m.add(w - 60, 300, 30, 0, 10, 374 * i)
        if i < 5:
            width = w - 60 - 20 * dice.between(0, 12)
            height = dice.between(210, 290, 10)
            books = Paint("brown", "books", pattern=dice.below(50))
            m.add(width, 210, height, -(w - 60 - width) // 2, -20, 374 * i + 30, books)
    return m


def filing_cabinet(dice: Dice) -> Model:
    """Return a steel cabinet of three drawers."""
    m = Model("filing cabinet", dice.pick(("grey", "black", "red", "blue", "green")), "metal")
    m.add(460, 560, 1020, 0, -10)
    for i in range(3):
        m.add(430, 14, 310, 0, 277, 30 + 330 * i).add(140, 12, 20, 0, 290, 250 + 330 * i, BLACK)
    return m.top(420, 520, 1020)
