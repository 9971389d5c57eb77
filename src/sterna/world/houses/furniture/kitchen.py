"""Furniture to cook and to eat at."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, STEEL, Model, wooden
from sterna.world.houses.paint import Paint


def dining_table(dice: Dice, size: str) -> Model:
    """Return a table for six ("large") or four ("small")."""
    w = 1800 if size == "large" else 1200
    m = wooden(dice, "dining table", size).add(w, 900, 40, 0, 0, 710)
    return m.legs(w - 60, 840, 710, 70).top(w - 100, 800, 750)


def chair(dice: Dice) -> Model:
    """Return a chair of wood; the back is at -y."""
    m = wooden(dice, "chair").add(420, 420, 40, 0, 0, 430).legs(420, 420, 430, 40)
    m.add(40, 40, 450, -190, -190, 470).add(40, 40, 450, 190, -190, 470)
    return m.add(340, 30, 180, 0, -195, 720).add(340, 30, 80, 0, -195, 580)


def sideboard(dice: Dice) -> Model:
    """Return a long low cupboard."""
    m = wooden(dice, "sideboard").add(1400, 420, 740, 0, -10, 80).legs(1300, 360, 80, 60)
    for x in (-460, 0, 460):
        m.add(440, 16, 640, x, 208, 130).add(14, 10, 120, x + 170, 221, 500, STEEL)
    return m.top(1360, 400, 820)


def counter(dice: Dice, width: int, paint: Paint) -> Model:
    """Return a stretch of kitchen counter in the kitchen's colour, under a worktop."""
    m = Model("kitchen counter", paint.colour, paint.material)
    m.add(width, 560, 780, 0, -20, 80).add(width, 500, 80, 0, -50, 0, BLACK)
    doors = max(1, width // 500)
    for i in range(doors):
        x = -width // 2 + width * (2 * i + 1) // (2 * doors)
        m.add(width // doors - 10, 18, 740, x, 269, 100)
        m.add(160, 12, 16, x, 284, 780, STEEL)
    m.add(width, 600, 40, 0, 0, 860, Paint("grey", "stone"))
    return m.top(width - 20, 460, 900, 0, -60)


def sink(dice: Dice, width: int, paint: Paint) -> Model:
    """Return the stretch of counter that holds the kitchen sink."""
    m = Model("kitchen sink", "grey", "metal").add(width, 560, 740, 0, -20, 80, paint)
    m.add(width, 500, 80, 0, -50, 0, BLACK).add(width - 10, 18, 700, 0, 269, 100, paint)
    m.add(width, 600, 40, 0, 0, 820, STEEL)
    for x in (-width // 2 + 60, width // 2 - 60):
        m.add(120, 600, 40, x, 0, 860, Paint("grey", "stone"))
    m.add(width - 240, 120, 40, 0, -240, 860, STEEL).add(width - 240, 120, 40, 0, 240, 860, STEEL)
    return m.add(30, 30, 260, 0, -240, 900, STEEL).add(30, 160, 30, 0, -145, 1130, STEEL)


def stove(dice: Dice) -> Model:
    """Return a stove with four rings and an oven."""
    m = Model("stove", dice.pick(("white", "black", "grey")), "metal").add(600, 580, 880, 0, -10)
    m.add(600, 600, 20, 0, 0, 880, BLACK).add(460, 12, 380, 0, 286, 260, BLACK)
    m.add(440, 16, 20, 0, 290, 700, STEEL)
    for x in (-220, -75, 75, 220):
        m.add(50, 12, 50, x, 286, 790, STEEL)
    for x in (-140, 140):
        for y in (-140, 140):
            m.add(180, 180, 10, x, y, 900, Paint("grey", "metal"))
    return m.top(180, 180, 910, -140, -140)


def dishwasher(dice: Dice) -> Model:
    """Return a dishwasher under the worktop."""
    m = Model("dishwasher", dice.pick(("white", "grey")), "metal").add(600, 580, 860, 0, -10)
    m.add(420, 14, 24, 0, 287, 740, BLACK).add(600, 600, 40, 0, 0, 860, Paint("grey", "stone"))
    return m.top(580, 460, 900, 0, -60)


def fridge(dice: Dice) -> Model:
    """Return a fridge with a freezer on top."""
    m = Model("fridge", dice.pick(("white", "grey", "red", "blue")), "metal")
    m.add(620, 600, 1800, 0, -20).add(600, 20, 1180, 0, 290, 30).add(600, 20, 540, 0, 290, 1230)
    return m.add(20, 20, 500, -260, 310, 650, STEEL).add(20, 20, 300, -260, 310, 1270, STEEL)


def bin_(dice: Dice) -> Model:
    """Return a waste bin."""
    m = Model("bin", dice.pick(("black", "red", "green", "blue", "grey", "white")), "plastic")
    return m.add(260, 260, 340).add(280, 280, 40, 0, 0, 340)
