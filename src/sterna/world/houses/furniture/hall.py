"""Furniture of halls, corridors and storage rooms."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, BRIGHT, DARK_WOOD, STEEL, Model, wooden
from sterna.world.houses.paint import Paint


def coat_rack(dice: Dice) -> Model:
    """Return a standing coat rack with a coat."""
    m = (
        wooden(dice, "coat rack")
        .add(400, 60, 40)
        .add(60, 160, 40, 0, 110)
        .add(60, 160, 40, 0, -110)
    )
    m.add(50, 50, 1700, 0, 0, 40).add(400, 30, 30, 0, 0, 1560).add(30, 400, 30, 0, 0, 1600)
    m.add(60, 300, 780, 140, 0, 780, Paint(dice.pick(BRIGHT), "fabric"))
    return m


def shoe_bench(dice: Dice) -> Model:
    """Return a bench with shoes under it."""
    m = wooden(dice, "bench").add(1000, 360, 50, 0, 0, 420)
    m.add(50, 340, 420, -470).add(50, 340, 420, 470).add(890, 300, 30, 0, 0, 120)
    for x in (-280, -20, 240):
        m.add(180, 260, 90, x, 0, 150, Paint(dice.pick(BRIGHT), "leather"))
    return m.top(900, 300, 470)


def console(dice: Dice) -> Model:
    """Return a narrow table for a hall or corridor."""
    m = wooden(dice, "console table").add(1000, 320, 40, 0, 0, 780).legs(960, 280, 780, 40)
    return m.add(880, 260, 120, 0, 0, 660).top(940, 280, 820)


def umbrella_stand(dice: Dice) -> Model:
    """Return an umbrella stand with one umbrella; its colour is the umbrella's."""
    m = Model("umbrella stand", dice.pick(BRIGHT), "fabric").add(240, 240, 480, paint=STEEL)
    return m.add(60, 60, 340, 40, 0, 480).add(20, 20, 60, 40, 0, 820, DARK_WOOD)


def stool(dice: Dice) -> Model:
    """Return a stool."""
    m = Model("stool", dice.pick(BRIGHT), "wood").add(340, 340, 40, 0, 0, 440)
    return m.legs(320, 320, 440, 40).top(200, 200, 480)


def metal_shelf(dice: Dice) -> Model:
    """Return open shelves of metal."""
    m = Model("shelf", dice.pick(("grey", "black", "blue", "red")), "metal")
    m.legs(900, 400, 1800, 40)
    for z in (120, 660, 1200, 1760):
        m.add(820, 400, 40, 0, 0, z)
    for z in (160, 700, 1240):
        m.top(800, 380, z)
    return m


def cardboard_box(dice: Dice, size: str) -> Model:
    """Return a cardboard box with tape."""
    w, d, h = (600, 400, 400) if size == "large" else (360, 300, 240)
    m = Model("box", dice.pick(("brown", "beige", "brown", "white", "blue", "red")), "paper", size)
    m.add(w, d, h).add(w, 50, 4, 0, 0, h, Paint("grey", "plastic"))
    return m.top(w - 80, d - 80, h + 4) if size == "large" else m


def suitcase(dice: Dice) -> Model:
    """Return a suitcase standing on its wheels."""
    m = Model("suitcase", dice.pick(BRIGHT), "plastic").add(460, 260, 660, 0, 0, 40)
    m.legs(400, 220, 40, 40, BLACK)
    return (
        m.add(20, 20, 200, -120, 0, 700, STEEL)
        .add(20, 20, 200, 120, 0, 700, STEEL)
        .add(260, 30, 30, 0, 0, 900, BLACK)
    )
