"""Small things of kitchens and tables."""

from __future__ import annotations

from collections.abc import Callable

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, BRIGHT, STEEL, Model
from sterna.world.houses.objects.home import CLAY
from sterna.world.houses.paint import Paint

GADGET = ("black", "white", "grey", "red")


def _kettle(d: Dice) -> Model:
    m = Model("kettle", d.pick(("red", "white", "black", "grey", "blue", "green")), "metal")
    m.add(180, 180, 180).add(120, 120, 40, 0, 0, 180, BLACK).add(60, 40, 40, -120, 0, 120)
    return m.add(30, 30, 140, 120, 0, 40, BLACK)


def _toaster(d: Dice) -> Model:
    m = Model("toaster", d.pick(("red", "white", "black", "grey", "yellow")), "metal")
    m.add(300, 180, 190)
    for y in (-40, 40):
        m.add(220, 36, 16, 0, y, 190, Paint("brown", "wood"))
    return m.add(16, 40, 30, 158, 0, 110, BLACK)


def _microwave(d: Dice) -> Model:
    m = Model("microwave", d.pick(("black", "white", "grey")), "metal").add(500, 360, 290)
    dark = Paint("grey" if m.colour == "black" else "black", "glass")
    return m.add(340, 10, 210, -50, 185, 40, dark).add(70, 10, 200, 190, 185, 45, STEEL)


def _coffee(d: Dice) -> Model:
    m = Model("coffee machine", d.pick(GADGET), "plastic").add(220, 300, 40)
    m.add(220, 120, 300, 0, -90, 40).add(220, 180, 80, 0, 60, 260)
    return m.add(110, 110, 130, 0, 60, 40, Paint("brown", "glass"))


def _fruit(d: Dice) -> Model:
    m = Model("fruit bowl", d.pick(CLAY), "ceramic").add(160, 160, 30).add(280, 280, 50, 0, 0, 30)
    for x, y, colour in (
        (-60, -50, "red"),
        (50, -60, "orange"),
        (-50, 60, "green"),
        (60, 50, "red"),
    ):
        m.add(80, 80, 60, x, y, 80, Paint(colour, "plastic"))
    return m.add(180, 50, 40, 0, 0, 140, Paint("yellow", "plastic"))


def _cup(d: Dice) -> Model:
    return Model("cup", d.pick(BRIGHT), "ceramic").add(80, 80, 100).add(20, 20, 60, 50, 0, 20)


def _plate(d: Dice) -> Model:
    m = Model("plate", d.pick(("white", "blue", "green", "yellow")), "ceramic")
    return m.add(140, 140, 12).add(240, 240, 12, 0, 0, 12)


def _teapot(d: Dice) -> Model:
    m = Model("teapot", d.pick(CLAY), "ceramic").add(150, 150, 120).add(50, 50, 30, 0, 0, 120)
    return m.add(80, 30, 30, -115, 0, 70).add(20, 30, 90, 115, 0, 20).add(30, 30, 20, 90, 0, 90)


def _bottle(d: Dice) -> Model:
    m = Model("bottle", d.pick(("green", "brown", "blue", "red")), "glass").add(80, 80, 190)
    return m.add(36, 36, 90, 0, 0, 190).add(40, 40, 20, 0, 0, 280, BLACK)


def _pan(d: Dice) -> Model:
    m = Model("pan", d.pick(("red", "black", "grey", "orange", "blue")), "metal")
    m.add(220, 220, 130).add(200, 200, 16, 0, 0, 130, STEEL).add(50, 50, 30, 0, 0, 146, BLACK)
    return m.add(40, 60, 24, -130, 0, 90, BLACK).add(40, 60, 24, 130, 0, 90, BLACK)


def _board(d: Dice) -> Model:
    m = Model("cutting board", "brown", "wood").add(360, 240, 20)
    return m.add(70, 70, 60, 60, 20, 20, Paint("red", "plastic"))


def _knives(d: Dice) -> Model:
    m = Model("knife block", d.pick(("brown", "black")), "wood").add(110, 160, 220)
    for x in (-32, 0, 32):
        m.add(16, 30, 90, x, 0, 220, BLACK if m.colour == "brown" else STEEL)
    return m


def _jar(d: Dice) -> Model:
    m = Model("jar", d.pick(("red", "orange", "yellow", "green", "purple")), "glass")
    return m.add(100, 100, 130).add(104, 104, 24, 0, 0, 130, STEEL)


KITCHEN: dict[str, Callable[[Dice], Model]] = {
    "kettle": _kettle,
    "toaster": _toaster,
    "microwave": _microwave,
    "coffee machine": _coffee,
    "fruit bowl": _fruit,
    "cup": _cup,
    "plate": _plate,
    "teapot": _teapot,
    "bottle": _bottle,
    "pan": _pan,
    "cutting board": _board,
    "knife block": _knives,
    "jar": _jar,
}
