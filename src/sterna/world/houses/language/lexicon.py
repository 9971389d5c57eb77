"""The words for what is in a house, in American spelling. No noun stands for two kinds."""

from __future__ import annotations

NOUNS: dict[str, tuple[str, ...]] = {
    "bin": ("trash can", "wastebasket"),
    "books": ("stack of books", "pile of books"),
    "bookshelf": ("bookshelf", "bookcase"),
    "chest of drawers": ("dresser", "chest of drawers"),
    "coat": ("coats", "coat hooks"),
    "computer screen": ("computer screen", "monitor"),
    "console table": ("console table", "narrow table"),
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
    "console table": ("sideboard",),
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


def nouns(kind: str) -> tuple[str, ...]:
    """Return the nouns of a kind of thing; the first is the usual one."""
    return NOUNS.get(kind, (kind,))


def article(noun: str) -> str:
    """Return a noun phrase with "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def is_plural(noun: str) -> bool:
    """Whether a noun takes a plural verb and no "a"."""
    return noun in ("coats", "coat hooks", "shelves", "stairs", "toy blocks")
