"""Small things to wash, mend and clean with."""

from __future__ import annotations

from collections.abc import Callable

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, BRIGHT, SOFT, STEEL, WHITE, Model
from sterna.world.houses.paint import Paint


def _soap(d: Dice) -> Model:
    m = Model("soap bottle", d.pick(BRIGHT), "plastic").add(70, 70, 130)
    return m.add(20, 20, 40, 0, 0, 130, WHITE).add(20, 50, 16, 0, 15, 170, WHITE)


def _detergent(d: Dice) -> Model:
    m = Model("detergent", d.pick(("blue", "orange", "green", "purple", "pink")), "plastic")
    return m.add(180, 100, 230).add(70, 70, 50, -30, 0, 230, WHITE)


def _towels(d: Dice) -> Model:
    m = Model("towels", d.pick(SOFT), "fabric")
    for i in range(3):
        m.add(360 - 10 * i, 260, 66, 0, 0, 70 * i, m.paint if i != 1 else Paint("white", "fabric"))
        if i < 2:
            m.add(340, 240, 4, 0, 0, 70 * i + 66, m.paint)
    return m


def _toolbox(d: Dice) -> Model:
    m = Model("toolbox", d.pick(("red", "blue", "black", "yellow")), "metal").add(420, 220, 180)
    return (
        m.add(20, 30, 50, -100, 0, 180, BLACK)
        .add(20, 30, 50, 100, 0, 180, BLACK)
        .add(220, 30, 20, 0, 0, 230, BLACK)
    )


def _can(d: Dice) -> Model:
    m = Model("paint can", d.pick(BRIGHT), "metal").add(180, 180, 200)
    return m.add(160, 160, 12, 0, 0, 200, STEEL)


def _watering(d: Dice) -> Model:
    m = Model("watering can", d.pick(("green", "red", "blue", "yellow", "grey")), "plastic")
    m.add(200, 160, 200).add(120, 30, 30, 160, 0, 100).add(40, 30, 120, 200, 0, 130)
    return m.add(30, 30, 140, -135, 0, 60).add(40, 30, 20, -100, 0, 200)


def _iron(d: Dice) -> Model:
    m = Model("iron", d.pick(("blue", "red", "purple", "white")), "plastic")
    m.add(260, 120, 30, paint=STEEL).add(220, 100, 50, -10, 0, 30).add(150, 40, 24, -20, 0, 110)
    return m.add(30, 40, 30, -80, 0, 80).add(30, 40, 30, 40, 0, 80)


CHORES: dict[str, Callable[[Dice], Model]] = {
    "soap bottle": _soap,
    "detergent": _detergent,
    "towels": _towels,
    "toolbox": _toolbox,
    "paint can": _can,
    "watering can": _watering,
    "iron": _iron,
}
