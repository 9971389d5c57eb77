"""Furniture of bedrooms and playrooms."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import SOFT, STEEL, Model, wooden
from sterna.world.houses.paint import Paint


def bed(dice: Dice, size: str) -> Model:
    """Return a double bed ("large") or a single one ("small"); its colour is the blanket's."""
    w = dice.pick((1600, 1800)) if size == "large" else 960
    m = Model("bed", dice.pick(SOFT), "fabric", size)
    frame = Paint(dice.pick(("brown", "white", "black")), "wood")
    m.add(w, 60, 1000, 0, -1000, 0, frame)
    m.add(w, 2000, 300, 0, 30, 0, frame)
    m.add(w - 40, 1960, 160, 0, 30, 300, Paint("white", "fabric"))
    m.add(w - 20, 1400, 60, 0, 320, 460)
    for x in (-w // 4, w // 4) if size == "large" else (0,):
        m.add(600, 360, 100, x, -720, 460, Paint("white", "fabric"))
    return m.top(w - 200, 1100, 520, 0, 400)


def night_table(dice: Dice) -> Model:
    """Return a small cupboard for beside a bed."""
    m = wooden(dice, "night table").add(440, 400, 500).add(380, 10, 180, 0, 205, 270, STEEL)
    return m.top(420, 380, 500)


def wardrobe(dice: Dice, size: str) -> Model:
    """Return a wardrobe with two or three doors."""
    w = 1800 if size == "large" else 1000
    m = wooden(dice, "wardrobe", size).add(w, 580, 2100, 0, -10)
    doors = w // 500
    for i in range(doors):
        x = -w // 2 + w // doors * i + w // doors // 2
        m.add(w // doors - 12, 16, 1980, x, 288, 80)
        m.add(20, 14, 240, x + w // doors // 2 - 60, 303, 950, STEEL)
    return m


def dresser(dice: Dice) -> Model:
    """Return a chest of drawers."""
    m = wooden(dice, "chest of drawers").add(1000, 460, 860, 0, -10)
    for i in range(3):
        m.add(940, 16, 240, 0, 228, 70 + 260 * i).add(180, 10, 20, 0, 241, 190 + 260 * i, STEEL)
    return m.top(960, 420, 860)


def toy_chest(dice: Dice) -> Model:
    """Return a chest for toys."""
    m = Model("toy chest", dice.pick(("red", "blue", "yellow", "green", "pink")), "wood")
    m.add(900, 440, 420).add(920, 460, 40, 0, 0, 420).add(100, 12, 60, 0, 226, 330, STEEL)
    return m.top(840, 400, 460)


def play_tent(dice: Dice) -> Model:
    """Return a children's play house."""
    m = Model("play house", dice.pick(("red", "blue", "yellow", "pink", "green")), "plastic")
    m.add(1100, 60, 1000, 0, -470).add(60, 880, 1000, -520).add(60, 880, 1000, 520)
    m.add(340, 60, 1000, -380, 470).add(340, 60, 1000, 380, 470).add(420, 60, 240, 0, 470, 760)
    roof = Paint("orange" if m.colour == "red" else "red", "plastic")
    return m.add(1200, 1100, 80, 0, 0, 1000, roof).add(800, 800, 120, 0, 0, 1080, roof)
