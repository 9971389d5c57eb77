"""What hangs on walls or from the ceiling, and the television."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, BRIGHT, DARK_WOOD, LIGHT, SOFT, STEEL, WHITE, Model
from sterna.world.houses.paint import Paint


def picture(d: Dice, size: str) -> Model:
    """Return a framed picture; its colour is the one that fills most of it."""
    w, h = (
        d.pick(((900, 640), (1100, 700))) if size == "large" else d.pick(((400, 500), (500, 400)))
    )
    m = Model("picture", d.pick(BRIGHT[:7]), "canvas", size)
    frame = Paint(d.pick(("brown", "black", "white")), "wood")
    m.add(w, 24, h, paint=frame)
    return m.add(
        w - 60, 6, h - 60, 0, 15, 30, Paint(m.colour, "canvas", h - 60, 0, 0, d.below(900))
    )


def mirror(d: Dice, w: int, h: int) -> Model:
    """Return a mirror in a frame."""
    m = Model("mirror", d.pick(("brown", "black", "white", "grey")), "wood").add(w, 20, h)
    return m.add(w - 60, 6, h - 60, 0, 13, 30, Paint("white", "glass"))


def wall_clock(d: Dice) -> Model:
    """Return a clock at ten past ten."""
    m = Model("clock", d.pick(("black", "red", "blue", "green", "brown")), "plastic").add(
        320, 30, 320
    )
    m.add(270, 6, 270, 0, 18, 25, WHITE).add(12, 4, 100, 0, 23, 160, BLACK)
    return m.add(70, 4, 12, 41, 23, 154, BLACK)


def television(d: Dice) -> Model:
    """Return a flat television on a foot."""
    m = Model("television", "black", "plastic").add(460, 240, 20).add(120, 40, 60, 0, -20, 20)
    return m.add(1220, 50, 700, 0, -20, 80).add(1180, 6, 650, 0, 8, 110, Paint("black", "screen"))


def wall_shelf(d: Dice) -> Model:
    """Return a board on a wall."""
    m = Model("wall shelf", d.pick(("brown", "white", "black")), "wood").add(
        900, 200, 30, 0, 0, 120
    )
    m.add(30, 160, 120, -300, -20).add(30, 160, 120, 300, -20)
    return m.top(860, 180, 150)


def wall_cabinet(d: Dice, width: int, paint: Paint) -> Model:
    """Return a kitchen cabinet for over the counter."""
    m = Model("kitchen cabinet", paint.colour, paint.material).add(width, 320, 700, 0, -10)
    doors = max(1, width // 450)
    for i in range(doors):
        x = -width // 2 + width * (2 * i + 1) // (2 * doors)
        m.add(width // doors - 10, 16, 680, x, 158, 10).add(14, 12, 100, x + 100, 172, 60, STEEL)
    return m


def hood(d: Dice) -> Model:
    """Return an extractor hood for over the stove."""
    m = Model("extractor hood", d.pick(("grey", "black", "white")), "metal").add(600, 440, 80)
    return m.add(260, 260, 620, 0, -90, 80)


def towel_rail(d: Dice) -> Model:
    """Return a towel on a rail; its colour is the towel's."""
    m = Model("towel", d.pick(SOFT), "fabric").add(600, 20, 20, 0, -10, 640, STEEL)
    m.add(20, 60, 20, -300, 0, 660, STEEL).add(20, 60, 20, 300, 0, 660, STEEL)
    return m.add(440, 24, 620, 0, 12, 40)


def coat_hooks(d: Dice) -> Model:
    """Return a board of hooks with two coats; its colour is the first coat's."""
    m = Model("coat", d.pick(BRIGHT), "fabric").add(900, 20, 100, 0, -60, 900, DARK_WOOD)
    m.add(380, 90, 880, -230, -5)
    return m.add(360, 90, 820, 230, -5, 60, Paint(d.pick(("black", "brown", "grey")), "fabric"))


def ceiling_lamp(d: Dice, shape: str) -> Model:
    """Return a lamp whose cord's top is the ceiling ("hanging"), or a flat one ("flat")."""
    if shape == "flat":
        m = Model("ceiling lamp", d.pick(("white", "black", "grey")), "glass")
        return m.add(400, 400, 20, 0, 0, 70).add(360, 360, 70, paint=LIGHT)
    m = Model("hanging lamp", d.pick(("red", "white", "black", "orange", "green", "blue")), "metal")
    m.add(14, 14, 380, 0, 0, 220, BLACK).add(360, 360, 180, 0, 0, 40)
    return m.add(280, 280, 40, paint=LIGHT)
