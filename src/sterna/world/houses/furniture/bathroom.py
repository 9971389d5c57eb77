"""What stands in bathrooms and laundry rooms."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, BRIGHT, SOFT, STEEL, Model
from sterna.world.houses.paint import Paint


def toilet(dice: Dice) -> Model:
    """Return a toilet with its cistern."""
    m = Model("toilet", "white", "ceramic").add(380, 180, 400, 0, -250, 420)
    m.add(240, 440, 360, 0, -60, 0).add(380, 500, 60, 0, 80, 360)
    m.add(400, 180, 30, 0, -250, 820).add(380, 480, 30, 0, 80, 420, Paint("white", "plastic"))
    return m.add(60, 30, 10, 0, -250, 850, STEEL)


def basin(dice: Dice) -> Model:
    """Return a washbasin on a cupboard."""
    m = Model("washbasin", "white", "ceramic")
    wood = Paint(dice.pick(("brown", "white", "black", "beige")), "wood")
    m.add(640, 440, 680, 0, -10, 80, wood).add(700, 480, 60, 0, 0, 760)
    for x in (-310, 310):
        m.add(80, 480, 60, x, 0, 820)
    m.add(540, 140, 60, 0, -170, 820).add(540, 60, 60, 0, 210, 820)
    m.add(30, 30, 140, 0, -180, 880, STEEL).add(30, 140, 26, 0, -95, 994, STEEL)
    return m.legs(600, 400, 80, 50, BLACK)


def bathtub(dice: Dice) -> Model:
    """Return a bathtub; its back is a long side."""
    m = Model("bathtub", "white", "ceramic").add(1700, 740, 420)
    m.add(1700, 90, 140, 0, -325, 420).add(1700, 90, 140, 0, 325, 420)
    for x in (-795, 795):
        m.add(110, 560, 140, x, 0, 420)
    m.add(1480, 560, 10, 0, 0, 420, Paint("blue", "ceramic"))
    return m.add(40, 120, 120, 600, -310, 560, STEEL)


def shower(dice: Dice) -> Model:
    """Return a shower: a tray, a screen of glass at one side, and the head on its pole."""
    m = Model("shower", "white", "ceramic").add(900, 900, 60)
    m.add(20, 860, 1900, 430, 0, 60, Paint("blue", "glass"))
    m.add(30, 30, 2000, 0, -430, 60, STEEL).add(30, 240, 30, 0, -300, 2060, STEEL)
    return m.add(200, 200, 30, 0, -180, 2030, STEEL)


def washer(dice: Dice, kind: str) -> Model:
    """Return a washing machine or a dryer."""
    m = Model(kind, dice.pick(("white", "white", "grey")), "metal").add(600, 580, 850, 0, -10)
    glass = Paint("black" if kind == "washing machine" else "blue", "glass")
    for w, h in ((380, 260), (260, 380), (330, 330)):  # as round as boxes get
        m.add(w, 12, h, 0, 286, 440 - h // 2, STEEL)
    for w, h in ((280, 180), (180, 280), (236, 236)):
        m.add(w, 8, h, 0, 296, 440 - h // 2, glass)
    return m.add(560, 10, 100, 0, 285, 730, BLACK).top(560, 540, 850)


def ironing_board(dice: Dice) -> Model:
    """Return an ironing board standing open."""
    m = Model("ironing board", dice.pick(("blue", "red", "green", "orange")), "fabric")
    m.add(1200, 360, 40, 0, 0, 860).add(40, 340, 860, -300, 0, 0, STEEL)
    return m.add(40, 340, 860, 300, 0, 0, STEEL).top(1000, 300, 900)


def basket(dice: Dice, size: str) -> Model:
    """Return a basket, open on top, with laundry in it."""
    w, h = (460, 520) if size == "large" else (360, 300)
    colour = dice.pick(("brown", "blue", "white", "red", "green", "yellow"))
    m = Model("basket", colour, "wicker" if colour == "brown" else "plastic", size)
    m.add(w, w, 20)
    for s in (-1, 1):
        m.add(20, w, h - 20, s * (w - 20) // 2, 0, 20).add(
            w - 40, 20, h - 20, 0, s * (w - 20) // 2, 20
        )
    return m.add(w - 80, w - 80, h - 80, 0, 0, 20, Paint(dice.pick(SOFT), "fabric"))


def bucket(dice: Dice) -> Model:
    """Return a bucket."""
    m = Model("bucket", dice.pick(BRIGHT), "plastic").add(280, 280, 20)
    for s in (-1, 1):
        m.add(20, 280, 280, s * 130, 0, 20).add(240, 20, 280, 0, s * 130, 20)
    return m


def vacuum(dice: Dice) -> Model:
    """Return a vacuum cleaner."""
    m = Model("vacuum cleaner", dice.pick(("red", "blue", "black", "green", "yellow")), "plastic")
    m.add(300, 420, 220, 0, 0, 30).legs(280, 400, 30, 60, BLACK)
    return m.add(40, 40, 760, 80, -120, 250, STEEL).add(60, 200, 60, 80, -40, 1010, BLACK)
