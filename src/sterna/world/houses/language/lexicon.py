"""The words for what is in a house, in American spelling. No noun stands for two kinds."""

from __future__ import annotations

NOUNS: dict[str, tuple[str, ...]] = {
    "bin": ("trash can", "wastebasket"),
    "books": ("stack of books", "pile of books"),
    "bookshelf": ("bookshelf", "bookcase"),
    "chest of drawers": ("dresser", "chest of drawers"),
    "coat": ("coats", "coat hooks"),
    "computer screen": ("computer screen", "monitor"),
    "console table": ("console table", "side table"),
    "desk chair": ("desk chair", "office chair"),
    "detergent": ("bottle of detergent", "detergent"),
    "dining table": ("dining table", "dining room table"),
    "dryer": ("dryer", "tumble dryer"),
    "floor lamp": ("floor lamp", "standing lamp"),
    "fridge": ("refrigerator", "fridge"),
    "fruit bowl": ("bowl of fruit", "fruit bowl"),
    "hanging lamp": ("hanging lamp", "pendant lamp"),
    "extractor hood": ("range hood",),
    "iron": ("iron",),
    "jar": ("jar",),
    "lamp": ("lamp",),
    "night table": ("nightstand", "bedside table"),
    "paint can": ("can of paint", "paint can"),
    "photo frame": ("framed photo", "photo frame"),
    "picture": ("picture", "painting"),
    "potted plant": ("potted plant",),
    "rug": ("rug",),
    "shelf": ("shelves", "shelving unit"),
    "sofa": ("couch", "sofa"),
    "soap bottle": ("soap bottle", "bottle of soap"),
    "stove": ("stove",),
    "suitcase": ("suitcase",),
    "teddy bear": ("teddy bear",),
    "television": ("television", "TV"),
    "television stand": ("TV stand",),
    "telephone": ("telephone", "phone"),
    "towels": ("pile of towels", "stack of towels"),
    "umbrella stand": ("umbrella stand",),
    "wardrobe": ("wardrobe",),
    "washbasin": ("bathroom sink", "washbasin"),
}
"""Nouns of kinds that are not (only) called by their kind's name."""

ALSO: dict[str, tuple[str, ...]] = {
    "armchair": ("sofa",),
    "box": ("toy chest",),
    "chair": ("armchair", "desk chair"),
    "lamp": ("floor lamp", "hanging lamp", "ceiling lamp"),
    "ceiling lamp": ("hanging lamp",),
    "plant": ("potted plant",),
    "potted plant": ("plant",),
    "shelf": ("wall shelf", "bookshelf"),
    "basket": ("bin",),
    "towel": ("towels",),
    "towels": ("towel",),
    "bench": ("stool",),
    "stool": ("bench",),
    "coat": ("coat rack",),
    "console table": ("sideboard", "night table"),
    "sideboard": ("chest of drawers", "console table"),
    "chest of drawers": ("sideboard",),
    "washing machine": ("dryer",),
    "dryer": ("washing machine",),
    "picture": ("photo frame",),
}
"""What else a listener may take a word for."""

ROOMS: dict[str, tuple[str, ...]] = {
    "bathroom": ("bathroom",),
    "bedroom": ("bedroom",),
    "corridor": ("hallway", "hallway", "corridor"),
    "dining room": ("dining room",),
    "hall": ("entryway", "entrance hall", "foyer"),
    "kitchen": ("kitchen",),
    "laundry room": ("laundry room",),
    "living room": ("living room",),
    "office": ("office", "study"),
    "playroom": ("playroom",),
    "storage room": ("storage room", "storeroom"),
}

COLOURS = {"grey": "gray"}
MATERIALS = {
    "wood": "wooden",
    "metal": "metal",
    "leather": "leather",
    "glass": "glass",
    "plastic": "plastic",
    "wicker": "wicker",
    "ceramic": "ceramic",
    "brick": "brick",
}
"""Materials that people name."""

RELATIONS: dict[str, tuple[str, ...]] = {
    "on": ("on", "on top of"),
    "beside": ("next to", "beside", "by"),
    "under": ("under", "below"),
    "above": ("above", "over"),
}
ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}

# How likely a kind is to be spoken of on the way; others of size count 3, small ones 1.
SALIENT = {
    "bed": 9, "sofa": 9, "dining table": 9, "fridge": 7, "bathtub": 7, "toilet": 6, "stove": 5,
    "piano": 9, "fireplace": 9, "television": 7, "desk": 6, "wardrobe": 5, "bookshelf": 5,
    "washing machine": 6, "plant": 5, "picture": 4, "mirror": 4, "window": 3, "shower": 5,
    "floor lamp": 5, "armchair": 6, "washbasin": 5, "kitchen sink": 5, "coffee table": 6,
    "console table": 4, "sideboard": 4, "bench": 4, "chest of drawers": 4, "shelf": 4,
    "rug": 0, "ceiling lamp": 0, "hanging lamp": 1, "extractor hood": 0, "kitchen cabinet": 0,
    "kitchen counter": 2, "radiator": 1, "wall shelf": 1, "door": 0, "stairs": 6,
}  # fmt: skip

FRONTS = (
    "sofa", "television", "television stand", "fridge", "stove", "mirror", "picture", "washbasin",
    "wardrobe", "bookshelf", "desk", "fireplace", "kitchen sink", "washing machine", "dryer",
    "bathtub", "chest of drawers", "console table", "sideboard", "shelf", "toilet", "piano",
    "dishwasher", "filing cabinet", "toy chest",
)  # fmt: skip
"""Kinds that one can stand in front of."""


_CARRIED = ("bring me", "pick up", "get", "take", "fetch", "grab", "dust", "move")
_SEAT = ("sit down on", "clean", "move", "dust off", "wipe down")
_SOFT_SEAT = ("sit down on", "clean", "vacuum", "move", "dust off")
_SURFACE = ("wipe", "clean", "dust", "polish", "wipe off", "wipe down")
_LAMP = ("turn on", "turn off", "dust", "switch on", "clean")
_WATER = ("clean", "wipe", "scrub", "wipe down", "check")
_PLANT = ("water", "bring me", "check on", "give some water to", "move")
_WALL = ("straighten", "dust", "look at", "take down")
_CHEST = ("open", "dust", "wipe down", "clean", "close", "check")
TASKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("books", "vase", "laptop", "cup", "plate", "teapot", "candle", "alarm clock",
        "teddy bear", "telephone", "soap bottle", "globe", "photo frame", "bottle", "jar",
        "detergent", "toolbox", "paint can", "watering can", "iron", "ball", "toy blocks",
        "toy truck", "keyboard", "knife block", "cutting board", "fruit bowl", "suitcase",
        "bucket", "basket", "box", "umbrella stand"), _CARRIED),
    **dict.fromkeys(("kettle", "pan", "coffee machine", "toaster", "microwave"),
        ("turn on", "bring me", "clean", "wipe", "unplug", "check")),
    **dict.fromkeys(("cushion",), ("fluff", "bring me", "pick up", "straighten", "take")),
    **dict.fromkeys(("towels", "towel"), ("bring me", "fold", "take", "wash", "refold", "get")),
    **dict.fromkeys(("chair", "desk chair", "stool", "bench"), _SEAT),
    **dict.fromkeys(("armchair", "sofa"), _SOFT_SEAT),
    **dict.fromkeys(("coffee table", "console table", "desk", "dining table", "night table",
        "sideboard", "kitchen counter", "television stand", "ironing board", "shelf",
        "bookshelf", "wall shelf", "fireplace", "piano"), _SURFACE),
    **dict.fromkeys(("lamp", "floor lamp"), (*_LAMP, "unplug")),
    **dict.fromkeys(("hanging lamp", "ceiling lamp"), _LAMP),
    **dict.fromkeys(("radio", "television", "computer screen", "speaker", "printer"),
        ("turn on", "turn off", "dust", "unplug", "wipe")),
    **dict.fromkeys(("bathtub", "washbasin", "kitchen sink"), _WATER),
    "shower": (*_WATER, "turn on"),
    "radiator": ("wipe", "dust", "turn on", "turn off", "check"),
    **dict.fromkeys(("plant", "potted plant"), _PLANT),
    **dict.fromkeys(("picture", "clock"), _WALL),
    "mirror": (*_WALL, "clean", "wipe"),
    **dict.fromkeys(("chest of drawers", "wardrobe", "filing cabinet", "toy chest",
        "kitchen cabinet", "fridge", "washing machine", "dryer", "dishwasher"), _CHEST),
    "stove": ("clean", "wipe down", "turn off", "turn on"),
    "toilet": ("clean", "flush", "scrub"),
    "bed": ("make", "tidy", "sit down on"),
    "bin": ("empty", "bring me", "take out"),
    "rug": ("vacuum", "shake out", "clean"),
    "coat": ("bring me", "take"),
    "vacuum cleaner": ("bring me", "get", "unplug"),
    "coat rack": ("dust", "wipe", "move"), "doll house": _CARRIED, "play house": _SURFACE,
    "extractor hood": _WATER[:3],
    "window": ("open", "close", "clean", "look out of", "wipe"),
}  # fmt: skip
"""What one may be asked to do, by kind; each stands before "the ...". """


def nouns(kind: str) -> tuple[str, ...]:
    """Return the nouns of a kind of thing; the first is the usual one."""
    return NOUNS.get(kind, (kind,))


def article(noun: str) -> str:
    """Return a noun phrase with "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def is_plural(words: str) -> bool:
    """Whether the last noun of some words takes no "a"."""
    return words.endswith(("coats", "coat hooks", "shelves", "stairs", "toy blocks"))
