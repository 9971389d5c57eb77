"""Furniture: what stands on the floor, one function a kind (millimetres; front along +y)."""

from __future__ import annotations

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import (
    BLACK,
    BRIGHT,
    DARK_WOOD,
    SOFT,
    STEEL,
    WHITE,
    Model,
    wooden,
)
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


def desk(dice: Dice) -> Model:
    """Return a desk with drawers at one side; people sit at its front."""
    m = wooden(dice, "desk").add(1400, 700, 40, 0, 0, 710)
    m.add(380, 640, 700, 480, 0, 10).add(40, 640, 710, -670, 0, 0)
    for i in range(3):
        m.add(340, 12, 190, 480, 326, 60 + 215 * i, Paint(m.colour, "wood", pattern=1))
    return m.top(1380, 660, 750)


def chair(dice: Dice) -> Model:
    """Return a chair of wood; the back is at -y."""
    m = wooden(dice, "chair").add(420, 420, 40, 0, 0, 430).legs(420, 420, 430, 40)
    m.add(40, 40, 450, -190, -190, 470).add(40, 40, 450, 190, -190, 470)
    return m.add(340, 30, 180, 0, -195, 720).add(340, 30, 80, 0, -195, 580)


def desk_chair(dice: Dice) -> Model:
    """Return a swivel chair."""
    m = Model("desk chair", dice.pick(("black", "grey", "blue", "red", "green")), "fabric")
    m.add(560, 60, 50, 0, 0, 30, BLACK).add(60, 560, 50, 0, 0, 30, BLACK)
    m.add(60, 60, 380, 0, 0, 80, STEEL).add(480, 480, 70, 0, 0, 460)
    return m.add(440, 60, 520, 0, -210, 560)


def bookshelf(dice: Dice, size: str) -> Model:
    """Return shelves full of books."""
    w = 1200 if size == "large" else 800
    m = wooden(dice, "bookshelf", size).add(w, 20, 1900, 0, -150)
    for x in (-w // 2 + 15, w // 2 - 15):
        m.add(30, 300, 1900, x, 10)
    for i in range(6):
        m.add(w - 60, 300, 30, 0, 10, 374 * i)
        if i < 5:
            width = w - 60 - 20 * dice.between(0, 12)
            height = dice.between(210, 290, 10)
            books = Paint("brown", "books", pattern=dice.below(50))
            m.add(width, 210, height, -(w - 60 - width) // 2, -20, 374 * i + 30, books)
    return m


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


def dining_table(dice: Dice, size: str) -> Model:
    """Return a table for six ("large") or four ("small")."""
    w = 1800 if size == "large" else 1200
    m = wooden(dice, "dining table", size).add(w, 900, 40, 0, 0, 710)
    return m.legs(w - 60, 840, 710, 70).top(w - 100, 800, 750)


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


def metal_shelf(dice: Dice) -> Model:
    """Return open shelves of metal."""
    m = Model("shelf", dice.pick(("grey", "black", "blue", "red")), "metal")
    m.legs(900, 400, 1800, 40)
    for z in (120, 660, 1200, 1760):
        m.add(820, 400, 40, 0, 0, z)
    for z in (160, 700, 1240):
        m.top(800, 380, z)
    return m


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


def floor_lamp(dice: Dice) -> Model:
    """Return a standing lamp; its colour is the shade's."""
    m = Model("floor lamp", dice.pick(("white", "yellow", "orange", "red", "beige")), "fabric")
    m.add(280, 280, 30, paint=BLACK).add(30, 30, 1370, 0, 0, 30, BLACK)
    return m.add(360, 360, 280, 0, 0, 1400)


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


def bin_(dice: Dice) -> Model:
    """Return a waste bin."""
    m = Model("bin", dice.pick(("black", "red", "green", "blue", "grey", "white")), "plastic")
    return m.add(260, 260, 340).add(280, 280, 40, 0, 0, 340)


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


def cardboard_box(dice: Dice, size: str) -> Model:
    """Return a cardboard box with tape."""
    w, d, h = (600, 400, 400) if size == "large" else (360, 300, 240)
    m = Model("box", dice.pick(("brown", "beige", "brown", "white", "blue", "red")), "paper", size)
    m.add(w, d, h).add(w, 50, 4, 0, 0, h, Paint("grey", "plastic"))
    return m.top(w - 80, d - 80, h + 4) if size == "large" else m


def filing_cabinet(dice: Dice) -> Model:
    """Return a steel cabinet of three drawers."""
    m = Model("filing cabinet", dice.pick(("grey", "black", "red", "blue", "green")), "metal")
    m.add(460, 560, 1020, 0, -10)
    for i in range(3):
        m.add(430, 14, 310, 0, 277, 30 + 330 * i).add(140, 12, 20, 0, 290, 250 + 330 * i, BLACK)
    return m.top(420, 520, 1020)


def stool(dice: Dice) -> Model:
    """Return a stool."""
    m = Model("stool", dice.pick(BRIGHT), "wood").add(340, 340, 40, 0, 0, 440)
    return m.legs(320, 320, 440, 40).top(200, 200, 480)


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


def radiator(dice: Dice) -> Model:
    """Return a radiator for under a window."""
    m = Model("radiator", "white", "metal").add(900, 60, 520, 0, 10, 120)
    for i in range(9):
        m.add(60, 12, 480, -400 + 100 * i, 46, 140)
    return m.add(40, 20, 40, -420, -30, 140, STEEL).add(40, 20, 40, 420, -30, 140, STEEL)


def vacuum(dice: Dice) -> Model:
    """Return a vacuum cleaner."""
    m = Model("vacuum cleaner", dice.pick(("red", "blue", "black", "green", "yellow")), "plastic")
    m.add(300, 420, 220, 0, 0, 30).legs(280, 400, 30, 60, BLACK)
    return m.add(40, 40, 760, 80, -120, 250, STEEL).add(60, 200, 60, 80, -40, 1010, BLACK)


def bucket(dice: Dice) -> Model:
    """Return a bucket."""
    m = Model("bucket", dice.pick(BRIGHT), "plastic").add(280, 280, 20)
    for s in (-1, 1):
        m.add(20, 280, 280, s * 130, 0, 20).add(240, 20, 280, 0, s * 130, 20)
    return m


def suitcase(dice: Dice) -> Model:
    """Return a suitcase standing on its wheels."""
    m = Model("suitcase", dice.pick(BRIGHT), "plastic").add(460, 260, 660, 0, 0, 40)
    m.legs(400, 220, 40, 40, BLACK)
    return (
        m.add(20, 20, 200, -120, 0, 700, STEEL)
        .add(20, 20, 200, 120, 0, 700, STEEL)
        .add(260, 30, 30, 0, 0, 900, BLACK)
    )


def umbrella_stand(dice: Dice) -> Model:
    """Return an umbrella stand with one umbrella; its colour is the umbrella's."""
    m = Model("umbrella stand", dice.pick(BRIGHT), "fabric").add(240, 240, 480, paint=STEEL)
    return m.add(60, 60, 340, 40, 0, 480).add(20, 20, 60, 40, 0, 820, DARK_WOOD)
