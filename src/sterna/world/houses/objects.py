"""Small things that stand on surfaces, and things that hang on walls or from the ceiling."""

from __future__ import annotations

from collections.abc import Callable

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import BLACK, BRIGHT, DARK_WOOD, LIGHT, SOFT, STEEL, WHITE, Model
from sterna.world.houses.paint import Paint

CLAY = ("white", "blue", "green", "red", "black", "yellow", "orange")
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


def _vase(d: Dice) -> Model:
    m = Model("vase", d.pick(CLAY), d.pick(("ceramic", "glass"))).add(120, 120, 220)
    m.add(20, 20, 120, 0, 0, 220, Paint("green", "leaves"))
    petals = Paint(d.pick(("red", "yellow", "pink", "purple", "orange", "white")), "fabric")
    return m.add(160, 160, 90, 0, 0, 340, petals)


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


def _cup(d: Dice) -> Model:
    return Model("cup", d.pick(BRIGHT), "ceramic").add(80, 80, 100).add(20, 20, 60, 50, 0, 20)


def _plate(d: Dice) -> Model:
    m = Model("plate", d.pick(("white", "blue", "green", "yellow")), "ceramic")
    return m.add(140, 140, 12).add(240, 240, 12, 0, 0, 12)


def _teapot(d: Dice) -> Model:
    m = Model("teapot", d.pick(CLAY), "ceramic").add(150, 150, 120).add(50, 50, 30, 0, 0, 120)
    return m.add(80, 30, 30, -115, 0, 70).add(20, 30, 90, 115, 0, 20).add(30, 30, 20, 90, 0, 90)


def _candle(d: Dice) -> Model:
    m = Model("candle", d.pick(("white", "red", "yellow", "green", "purple")), "plastic")
    m.add(100, 100, 12, paint=STEEL).add(60, 60, 140, 0, 0, 12)
    return m.add(14, 14, 30, 0, 0, 152, Paint("yellow", "light"))


def _alarm(d: Dice) -> Model:
    m = Model("alarm clock", d.pick(BRIGHT), "plastic").add(160, 60, 120)
    return m.add(130, 6, 90, 0, 33, 15, WHITE if m.colour == "black" else BLACK)


def _cushion(d: Dice) -> Model:
    return Model("cushion", d.pick(SOFT), "fabric").add(400, 160, 300)


def _teddy(d: Dice) -> Model:
    m = Model("teddy bear", d.pick(("brown", "beige", "white", "pink")), "fabric")
    m.add(180, 140, 180).add(160, 140, 140, 0, 0, 180).add(50, 40, 50, -70, 0, 320)
    m.add(50, 40, 50, 70, 0, 320).add(60, 120, 60, -60, 130).add(60, 120, 60, 60, 130)
    for x in (-35, 35):
        m.add(20, 6, 20, x, 73, 260, BLACK)
    return m.add(40, 10, 30, 0, 75, 215, BLACK)


def _phone(d: Dice) -> Model:
    m = Model("telephone", d.pick(("black", "red", "white", "green")), "plastic")
    m.add(200, 200, 70).add(240, 60, 40, 0, -50, 70)
    return m.add(110, 80, 10, 0, 40, 70, WHITE if m.colour != "white" else BLACK)


def _printer(d: Dice) -> Model:
    m = Model("printer", d.pick(("white", "grey", "black")), "plastic").add(420, 340, 200)
    return m.add(300, 120, 40, 0, -60, 200, WHITE).add(320, 30, 30, 0, 185, 60, BLACK)


def _soap(d: Dice) -> Model:
    m = Model("soap bottle", d.pick(BRIGHT), "plastic").add(70, 70, 130)
    return m.add(20, 20, 40, 0, 0, 130, WHITE).add(20, 50, 16, 0, 15, 170, WHITE)


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


def _pot_plant(d: Dice) -> Model:
    m = Model("potted plant", d.pick(CLAY), "ceramic").add(140, 140, 130)
    leaf = Paint("green", "leaves")
    return m.add(220, 220, 140, 0, 0, 130, leaf).add(140, 140, 70, 10, 10, 270, leaf)


def _bottle(d: Dice) -> Model:
    m = Model("bottle", d.pick(("green", "brown", "blue", "red")), "glass").add(80, 80, 190)
    return m.add(36, 36, 90, 0, 0, 190).add(40, 40, 20, 0, 0, 280, BLACK)


def _pan(d: Dice) -> Model:
    m = Model("pan", d.pick(("red", "black", "grey", "orange", "blue")), "metal")
    m.add(220, 220, 130).add(200, 200, 16, 0, 0, 130, STEEL).add(50, 50, 30, 0, 0, 146, BLACK)
    return m.add(40, 60, 24, -130, 0, 90, BLACK).add(40, 60, 24, 130, 0, 90, BLACK)


def _table_lamp(d: Dice) -> Model:
    m = Model("lamp", d.pick(("white", "yellow", "red", "green", "blue", "orange")), "fabric")
    return (
        m.add(140, 140, 30, paint=BLACK)
        .add(30, 30, 190, 0, 0, 30, BLACK)
        .add(240, 240, 180, 0, 0, 220)
    )


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


SMALL: dict[str, Callable[[Dice], Model]] = {
    "kettle": _kettle,
    "toaster": _toaster,
    "microwave": _microwave,
    "coffee machine": _coffee,
    "fruit bowl": _fruit,
    "vase": _vase,
    "books": _books,
    "laptop": _laptop,
    "computer screen": _monitor,
    "keyboard": _keyboard,
    "cup": _cup,
    "plate": _plate,
    "teapot": _teapot,
    "candle": _candle,
    "alarm clock": _alarm,
    "cushion": _cushion,
    "teddy bear": _teddy,
    "telephone": _phone,
    "printer": _printer,
    "soap bottle": _soap,
    "globe": _globe,
    "radio": _radio,
    "speaker": _speaker,
    "photo frame": _photo,
    "potted plant": _pot_plant,
    "bottle": _bottle,
    "pan": _pan,
    "lamp": _table_lamp,
    "cutting board": _board,
    "knife block": _knives,
    "jar": _jar,
    "detergent": _detergent,
    "towels": _towels,
    "toolbox": _toolbox,
    "paint can": _can,
    "watering can": _watering,
    "iron": _iron,
    "ball": _ball,
    "toy blocks": _blocks,
    "toy truck": _truck,
    "doll house": _doll_house,
}


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


KINDS: tuple[str, ...] = tuple(sorted([
    *SMALL, "armchair", "basket", "bathtub", "bed", "bench", "bin", "bookshelf", "box", "bucket",
    "ceiling lamp", "chair", "chest of drawers", "clock", "coat", "coat rack", "coffee table",
    "console table", "desk", "desk chair", "dining table", "dishwasher", "dryer", "extractor hood",
    "filing cabinet", "fireplace", "floor lamp", "fridge", "hanging lamp", "ironing board",
    "kitchen cabinet", "kitchen counter", "kitchen sink", "mirror", "night table", "piano",
    "picture", "plant", "play house", "radiator", "rug", "shelf", "shower", "sideboard", "sofa",
    "stool", "stove", "suitcase", "television", "television stand", "toilet", "towel", "toy chest",
    "umbrella stand", "vacuum cleaner", "wall shelf", "wardrobe", "washbasin", "washing machine",
]))  # fmt: skip
