"""What rooms are called, and whose bedrooms they are."""

from __future__ import annotations

from sterna.world.houses.plan import Space

LARGE_BEDROOMS = ("main bedroom", "guest bedroom")
SMALL_BEDROOMS = (
    "children's bedroom",
    "second children's bedroom",
    "third children's bedroom",
    "small bedroom",
)


def by_size(spaces: list[Space], kind: str) -> list[int]:
    """Return the rooms of a kind, largest first."""

    def area(number: int) -> int:
        x0, y0, x1, y1 = spaces[number].rects[0]
        return (x1 - x0) * (y1 - y0)

    return sorted((i for i, s in enumerate(spaces) if s.kind == kind), key=lambda i: -area(i))


def single_beds(spaces: list[Space]) -> list[int]:
    """Return the bedrooms with a single bed: all but the largest (of two, neither)."""
    beds = by_size(spaces, "bedroom")
    return beds[1:] if len(beds) > 2 else []


def room_names(spaces: list[Space]) -> list[str]:
    """Name rooms so that no two of a house share a name."""
    names = [s.kind for s in spaces]
    single = single_beds(spaces)
    for kind in dict.fromkeys(names):
        same = by_size(spaces, kind)
        storeys = [spaces[i].storey for i in same]
        if len(same) < 2:
            continue
        if kind == "bedroom":
            large = [i for i in same if i not in single]
            found = [*zip(large, LARGE_BEDROOMS, strict=False)]
            found += zip(single, SMALL_BEDROOMS, strict=False)
        elif sorted(storeys) == [0, 1]:
            found = [(i, f"{('downstairs', 'upstairs')[spaces[i].storey]} {kind}") for i in same]
        else:
            found = [
                (i, f"{word} {kind}")
                for i, word in zip(same, ("large", "small", "third", "fourth"), strict=False)
            ]
        for i, name in found:
            names[i] = name
    return names
