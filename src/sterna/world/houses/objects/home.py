"""Small things that make a home: flowers, candles, toys."""

from __future__ import annotations

from collections.abc import Callable

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, DARK_WOOD, SOFT, STEEL, Model
from sterna.world.houses.paint import Paint

CLAY = ("white", "blue", "green", "red", "black", "yellow", "orange")


def _vase(d: Dice) -> Model:
    m = Model("vase", d.pick(CLAY), d.pick(("ceramic", "glass"))).add(120, 120, 220)
    m.add(20, 20, 120, 0, 0, 220, Paint("green", "leaves"))
    petals = Paint(d.pick(("red", "yellow", "pink", "purple", "orange", "white")), "fabric")
    return m.add(160, 160, 90, 0, 0, 340, petals)


def _candle(d: Dice) -> Model:
    m = Model("candle", d.pick(("white", "red", "yellow", "green", "purple")), "plastic")
    m.add(100, 100, 12, paint=STEEL).add(60, 60, 140, 0, 0, 12)
    return m.add(14, 14, 30, 0, 0, 152, Paint("yellow", "light"))


def _cushion(d: Dice) -> Model:
    return Model("cushion", d.pick(SOFT), "fabric").add(400, 160, 300)


def _pot_plant(d: Dice) -> Model:
    m = Model("potted plant", d.pick(CLAY), "ceramic").add(140, 140, 130)
    leaf = Paint("green", "leaves")
    return m.add(220, 220, 140, 0, 0, 130, leaf).add(140, 140, 70, 10, 10, 270, leaf)


def _teddy(d: Dice) -> Model:
    m = Model("teddy bear", d.pick(("brown", "beige", "white", "pink")), "fabric")
    m.add(180, 140, 180).add(160, 140, 140, 0, 0, 180).add(50, 40, 50, -70, 0, 320)
    m.add(50, 40, 50, 70, 0, 320).add(60, 120, 60, -60, 130).add(60, 120, 60, 60, 130)
    for x in (-35, 35):
        m.add(20, 6, 20, x, 73, 260, BLACK)
    return m.add(40, 10, 30, 0, 75, 215, BLACK)


def _ball(d: Dice) -> Model:
    m = Model("ball", d.pick(("red", "blue", "yellow", "green", "orange")), "plastic")
    m.add(140, 140, 30).add(220, 220, 160, 0, 0, 30).add(140, 140, 30, 0, 0, 190)
    return m


def _blocks(d: Dice) -> Model:
    m = Model("toy blocks", d.pick(("red", "blue", "yellow", "green")), "wood").add(100, 100, 100)
    m.add(100, 100, 100, 130, 20, 0, Paint("yellow" if m.colour != "yellow" else "blue", "wood"))
    return m.add(100, 100, 100, 60, 0, 100)


def _truck(d: Dice) -> Model:
    m = Model("toy truck", d.pick(("red", "yellow", "blue", "green")), "plastic")
    m.add(360, 160, 60, 0, 0, 40).add(110, 150, 120, 120, 0, 100)
    m.add(220, 150, 70, -60, 0, 100, Paint("grey", "plastic"))
    for x in (-110, 110):
        m.add(80, 180, 40, x, 0, 0, BLACK)
    return m


def _doll_house(d: Dice) -> Model:
    m = Model("doll house", d.pick(("pink", "white", "yellow", "purple")), "wood")
    m.add(500, 320, 420).add(560, 380, 40, 0, 0, 420, Paint("red", "wood"))
    m.add(360, 260, 80, 0, 0, 460, Paint("red", "wood"))
    for x in (-140, 140):
        m.add(100, 6, 120, x, 163, 240, Paint("blue", "glass"))
    return m.add(100, 6, 180, 0, 163, 0, DARK_WOOD)


HOME: dict[str, Callable[[Dice], Model]] = {
    "vase": _vase,
    "candle": _candle,
    "cushion": _cushion,
    "potted plant": _pot_plant,
    "teddy bear": _teddy,
    "ball": _ball,
    "toy blocks": _blocks,
    "toy truck": _truck,
    "doll house": _doll_house,
}
