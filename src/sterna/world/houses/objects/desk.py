"""Small things of desks and shelves."""

from __future__ import annotations

from collections.abc import Callable

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, BRIGHT, DARK_WOOD, STEEL, WHITE, Model
from sterna.world.houses.paint import Paint


def _books(d: Dice) -> Model:
    m, z = Model("books", d.pick(BRIGHT), "paper"), 0
    for i in range(d.between(2, 4)):
        paint = m.paint if i == 0 else Paint(d.pick(BRIGHT), "paper")
        h = d.between(30, 50, 10)
        m.add(240 - 20 * i, 170 - 10 * i, h, 0, 0, z, paint)
        z += h
    m.parts[-1] = (m.parts[-1][0], m.paint)
    return m


def _laptop(d: Dice) -> Model:
    m = Model("laptop", d.pick(("grey", "black", "white")), "metal").add(340, 240, 20)
    screen = Paint("blue", "screen")
    return m.add(340, 16, 230, 0, -128, 0).add(310, 4, 200, 0, -118, 24, screen)


def _monitor(d: Dice) -> Model:
    m = Model("computer screen", "black", "plastic").add(240, 180, 16)
    m.add(50, 30, 140, 0, -40, 16).add(560, 40, 340, 0, -20, 156)
    return m.add(530, 6, 300, 0, 3, 176, Paint("blue", "screen"))


def _keyboard(d: Dice) -> Model:
    m = Model("keyboard", d.pick(("black", "white")), "plastic").add(420, 140, 20)
    return m.add(400, 120, 6, 0, 0, 20, Paint("grey", "plastic"))


def _phone(d: Dice) -> Model:
    m = Model("telephone", d.pick(("black", "red", "white", "green")), "plastic")
    m.add(200, 200, 70).add(240, 60, 40, 0, -50, 70)
    return m.add(110, 80, 10, 0, 40, 70, WHITE if m.colour != "white" else BLACK)


def _printer(d: Dice) -> Model:
    m = Model("printer", d.pick(("white", "grey", "black")), "plastic").add(420, 340, 200)
    return m.add(300, 120, 40, 0, -60, 200, WHITE).add(320, 30, 30, 0, 185, 60, BLACK)


def _globe(d: Dice) -> Model:
    m = Model("globe", "blue", "plastic").add(160, 160, 20, paint=DARK_WOOD)
    m.add(20, 20, 40, 0, 0, 20, DARK_WOOD).add(220, 180, 120, 0, 0, 110).add(150, 150, 50, 0, 0, 60)
    return m.add(150, 150, 50, 0, 0, 230).add(100, 6, 70, -30, 93, 130, Paint("green", "leaves"))


def _radio(d: Dice) -> Model:
    m = Model("radio", d.pick(("brown", "red", "black", "white", "blue")), "plastic")
    m.add(320, 120, 180).add(130, 6, 130, -70, 63, 25, Paint("beige", "fabric"))
    return m.add(100, 6, 40, 80, 63, 110, STEEL).add(10, 10, 160, 140, -40, 180, STEEL)


def _speaker(d: Dice) -> Model:
    m = Model("speaker", d.pick(("black", "white", "brown")), "wood").add(200, 220, 340)
    dark = Paint("grey", "fabric")
    return m.add(140, 6, 140, 0, 113, 30, dark).add(80, 6, 80, 0, 113, 220, dark)


def _photo(d: Dice) -> Model:
    m = Model("photo frame", d.pick(("brown", "black", "white", "yellow")), "wood").add(
        180, 30, 230
    )
    return m.add(140, 4, 190, 0, 17, 20, Paint("blue", "canvas", 190, 0, 0, d.below(90)))


def _table_lamp(d: Dice) -> Model:
    m = Model("lamp", d.pick(("white", "yellow", "red", "green", "blue", "orange")), "fabric")
    return (
        m.add(140, 140, 30, paint=BLACK)
        .add(30, 30, 190, 0, 0, 30, BLACK)
        .add(240, 240, 180, 0, 0, 220)
    )


def _alarm(d: Dice) -> Model:
    m = Model("alarm clock", d.pick(BRIGHT), "plastic").add(160, 60, 120)
    return m.add(130, 6, 90, 0, 33, 15, WHITE if m.colour == "black" else BLACK)


DESK: dict[str, Callable[[Dice], Model]] = {
    "books": _books,
    "laptop": _laptop,
    "computer screen": _monitor,
    "keyboard": _keyboard,
    "telephone": _phone,
    "printer": _printer,
    "globe": _globe,
    "radio": _radio,
    "speaker": _speaker,
    "photo frame": _photo,
    "lamp": _table_lamp,
    "alarm clock": _alarm,
}
