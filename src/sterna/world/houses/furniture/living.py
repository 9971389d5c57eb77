"""Furniture of living rooms, and what stands in any room."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, DARK_WOOD, SOFT, STEEL, WHITE, Model, wooden
from sterna.world.houses.paint import Paint


def sofa(dice: Dice, size: str) -> Model:
    """Return a sofa for two ("small") or three ("large")."""
    w = 2200 if size == "large" else 1560
    m = Model("sofa", dice.pick((*SOFT, "brown", "black")), dice.pick(("fabric", "leather")), size)
    m.add(w - 360, 900, 400, 0, 0, 40).add(w, 200, 800, 0, -350, 40)
    for x in (-(w - 180) // 2, (w - 180) // 2):
        m.add(180, 700, 560, x, 100, 40)
    m.parts[0] = ((-(w - 360) // 2, -250, 40, (w - 360) // 2, 450, 400), m.paint)
    seats = 3 if size == "large" else 2
    for i in range(seats):
        x = (w - 400) * (2 * i + 1 - seats) // (2 * seats)
        m.add((w - 400) // seats - 20, 660, 60, x, 90, 400)
    return m.legs(w - 60, 800, 40, 60, BLACK).top(w - 500, 400, 460, 0, 100)


def armchair(dice: Dice) -> Model:
    """Return an armchair."""
    m = Model("armchair", dice.pick((*SOFT, "brown")), dice.pick(("fabric", "leather")))
    m.add(560, 640, 360, 0, 80, 60).add(840, 180, 860, 0, -330, 60)
    for x in (-350, 350):
        m.add(140, 640, 520, x, 80, 60)
    return m.add(540, 600, 60, 0, 80, 420).legs(760, 760, 60, 60, DARK_WOOD)


def coffee_table(dice: Dice) -> Model:
    """Return a low table."""
    w = dice.pick((900, 1100))
    m = wooden(dice, "coffee table").add(w, 560, 40, 0, 0, 380).legs(w - 40, 520, 380, 60)
    return m.add(w - 160, 440, 20, 0, 0, 140).top(w - 40, 520, 420)


def tv_stand(dice: Dice) -> Model:
    """Return the low cupboard under a television."""
    m = wooden(dice, "television stand").add(1500, 420, 420, 0, -10, 60)
    for x in (-375, 375):
        m.add(720, 16, 360, x, 208, 90)
    return m.legs(1400, 380, 60, 60, BLACK).top(1460, 400, 480)


def fireplace(dice: Dice) -> Model:
    """Return a fireplace of brick with a mantelpiece."""
    m = Model("fireplace", dice.pick(("red", "grey", "white")), "brick")
    m.add(360, 400, 1000, -470).add(360, 400, 1000, 470).add(1300, 400, 160, 0, 0, 1000)
    m.add(580, 40, 1000, 0, -180, 0, BLACK).add(580, 360, 60, 0, 20, 0, Paint("grey", "stone"))
    m.add(380, 120, 100, 0, 0, 60, DARK_WOOD).add(300, 80, 160, 0, 0, 160, Paint("orange", "light"))
    return m.add(1460, 440, 60, 0, 20, 1160, DARK_WOOD).top(1400, 380, 1220)


def piano(dice: Dice) -> Model:
    """Return an upright piano."""
    m = Model("piano", dice.pick(("black", "brown", "white")), "wood")
    m.add(1460, 360, 1200, 0, -120).add(1460, 240, 120, 0, 180, 620)
    m.add(1340, 140, 10, 0, 200, 740, WHITE)
    for i in range(18):
        m.add(24, 84, 8, -620 + 72 * i, 172, 750, BLACK)
    return m.add(80, 80, 620, -680, 240).add(80, 80, 620, 680, 240).top(1400, 300, 1200, 0, -120)


def floor_lamp(dice: Dice) -> Model:
    """Return a standing lamp; its colour is the shade's."""
    m = Model("floor lamp", dice.pick(("white", "yellow", "orange", "red", "beige")), "fabric")
    m.add(280, 280, 30, paint=BLACK).add(30, 30, 1370, 0, 0, 30, BLACK)
    return m.add(360, 360, 280, 0, 0, 1400)


def floor_plant(dice: Dice, size: str) -> Model:
    """Return a plant in a pot on the floor; its colour is the pot's."""
    w, h = (420, 420) if size == "large" else (280, 280)
    m = Model(
        "plant", dice.pick(("white", "brown", "blue", "orange", "black", "red")), "ceramic", size
    )
    m.add(w - 80, w - 80, h).add(w - 100, w - 100, 20, 0, 0, h, Paint("brown", "earth"))
    leaf = Paint("green", "leaves")
    m.add(40, 40, h // 2, 0, 0, h + 20, Paint("brown", "wood"))
    m.add(w, w, h, 0, 0, h * 3 // 2 + 20, leaf)
    return m.add(w - 140, w - 140, h // 2, 20, -20, h * 5 // 2 + 20, leaf)


def rug(dice: Dice, w: int, d: int) -> Model:
    """Return a rug with a border in a second colour."""
    m = Model("rug", dice.pick(SOFT), "wool", "large" if w * d > 3_000_000 else "small")
    border = Paint(dice.pick(("white", "black", "beige", "brown")), "wool")
    m.add(w - 240, d - 240, 12)
    for y in (-(d - 120) // 2, (d - 120) // 2):
        m.add(w, 120, 12, 0, y, 0, border)
    for x in (-(w - 120) // 2, (w - 120) // 2):
        m.add(120, d - 240, 12, x, 0, 0, border)
    return m


def radiator(dice: Dice) -> Model:
    """Return a radiator for under a window."""
    m = Model("radiator", "white", "metal").add(900, 60, 520, 0, 10, 120)
    for i in range(9):
        m.add(60, 12, 480, -400 + 100 * i, 46, 140)
    return m.add(40, 20, 40, -420, -30, 140, STEEL).add(40, 20, 40, 420, -30, 140, STEEL)
