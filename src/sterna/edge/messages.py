"""What is said to `sterna serve` and what it answers: observations and decisions as messages.

Reading is strict: unknown fields, strings for numbers, numbers out of range are refused before
anything of a session changes. Metres and radians, as in `sterna.edge.runtime`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.runtime import Decision, Neighbour, Objects, Observation
from sterna.edge.wire import array
from sterna.errors import InputError

NAME = 200  # characters of a place's name
INSTRUCTION = 10_000  # characters
METRES, RADIANS, FEATURE = 1e6, 100.0, 1e6  # what is further, or larger, is a mistake
NEIGHBOURS, VIEWS, OBJECTS = 64, 256, 256  # most of each in one observation

_NEEDED = ("node", "position", "views")
_NEIGHBOUR = {field.name for field in fields(Neighbour)}
_OBJECTS = {field.name for field in fields(Objects)}


def write_observation(seen: Observation) -> dict[str, Any]:
    """Return an observation as a message; features are arrays, for `wire.encode`."""
    things = seen.objects
    return {
        "node": seen.node,
        "position": _list(seen.position),
        "views": np.asarray(seen.views, np.float32),
        "neighbours": [_write_neighbour(near) for near in seen.neighbours],
        "heading": None if seen.heading is None else float(seen.heading),
        "elevation": float(seen.elevation),
        "view_headings": None if seen.view_headings is None else _list(seen.view_headings),
        "view_elevations": None if seen.view_elevations is None else _list(seen.view_elevations),
        "objects": None if things is None else _write_objects(things),
    }


def _write_objects(things: Objects) -> dict[str, Any]:
    return {
        "ids": [int(i) for i in np.asarray(things.ids).reshape(-1)],
        "features": np.asarray(things.features, np.float32),
        "directions": _list(things.directions),
        "sizes": _list(things.sizes),
    }


def _write_neighbour(near: Neighbour) -> dict[str, Any]:
    more = {name: getattr(near, name) for name in ("heading", "elevation", "distance")}
    told = {name: float(value) for name, value in more.items() if value is not None}
    return {"name": near.name, "position": _list(near.position), **told}


def _list(value: Any) -> Any:
    return np.asarray(value, np.float64).tolist()


def read_observation(
    message: Mapping[str, Any], ahead: Mapping[str, Observation] | None = None
) -> Observation:
    """Read an observation; fields that it leaves out are those sent `ahead` for its node.

    Raises `InputError` for a field that is missing, unknown or not what it should be.
    """
    _check_names(message, {field.name for field in fields(Observation)}, "observation")
    node = text(message.get("node"), "node", NAME)
    early = (ahead or {}).get(node)
    given = {name: _READERS[name](message, value) for name, value in message.items() if name}
    if early is not None:
        seen = replace(early, **given)
    else:
        for name in _NEEDED:
            if name not in given:
                raise InputError(f"observation of {node!r}: {name} is missing")
        seen = Observation(**given)
    _check_directions(seen)
    return seen


def _check_directions(seen: Observation) -> None:
    """Check that directions of views, where they are given, are one a view."""
    count = len(np.asarray(seen.views))
    for name in ("view_headings", "view_elevations"):
        value = getattr(seen, name)
        if value is not None and len(value) != count:
            raise InputError(f"{name}: expected {count}, one a view, found {len(value)}")
    if seen.view_elevations is not None and seen.view_headings is None:
        raise InputError("view_elevations: expected view_headings beside them")


def _check_names(found: Mapping[str, Any], known: set[str], what: str) -> None:
    for name in found:
        if name and name not in known:
            raise InputError(f"{what}: unknown field {name[:NAME]!r}; it has {sorted(known)}")


def text(value: Any, name: str, most: int) -> str:
    """Return a string of 1 to `most` characters that is valid Unicode."""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise InputError(f"{name}: expected a string of 1 to {most} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{name}: holds half of a surrogate pair") from None
    return value


def read_instruction(value: Any) -> str | list[int]:
    """Return an instruction, as text or as word ids."""
    if not isinstance(value, list):
        return text(value, "instruction", INSTRUCTION)
    if not all(type(word) is int and 0 <= word < 2**31 for word in value):
        raise InputError("instruction: expected text, or a list of word ids")
    return value


def _number(value: Any, name: str, most: float) -> float:
    if type(value) not in (int, float) or not -most <= value <= most:
        raise InputError(f"{name}: expected a number between -{most:g} and {most:g}")
    return float(value)


def _numbers(value: Any, name: str, most: float, counts: Sequence[int]) -> NDArray[np.float64]:
    if not isinstance(value, list) or len(value) not in counts:
        expected = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        raise InputError(f"{name}: expected a list of {expected} numbers")
    return np.array([_number(x, name, most) for x in value], np.float64)


def _features(message: Mapping[str, Any], value: Any, name: str, most: int) -> NDArray[np.float32]:
    found = array(message, value, name)
    if found.ndim != 2 or not 1 <= len(found) <= most:
        raise InputError(f"{name}: expected 1 to {most} rows of numbers, found {found.shape}")
    if np.abs(found).max(initial=0.0) > FEATURE:
        raise InputError(f"{name}: found numbers beyond {FEATURE:g}; these are no features")
    return found


def _neighbours(_: Mapping[str, Any], value: Any) -> list[Neighbour]:
    if not isinstance(value, list) or len(value) > NEIGHBOURS:
        raise InputError(f"neighbours: expected a list of at most {NEIGHBOURS}")
    return [_neighbour(near) for near in value]


def _neighbour(value: Any) -> Neighbour:
    if not isinstance(value, dict):
        raise InputError(f"neighbours: expected objects with {sorted(_NEIGHBOUR)}")
    _check_names(value, _NEIGHBOUR, "neighbour")
    name = text(value.get("name"), "neighbour's name", NAME)
    where = f"neighbour {name!r}: "
    place = _numbers(value.get("position"), f"{where}position", METRES, (3,))
    more = dict(_neighbour_numbers(value, where))
    if more.get("distance", 0.0) < 0:
        raise InputError(f"{where}distance: expected 0 or more metres")
    return Neighbour(name=name, position=place, **more)


def _neighbour_numbers(value: Mapping[str, Any], where: str) -> Iterator[tuple[str, float]]:
    for name, most in (("heading", RADIANS), ("elevation", RADIANS), ("distance", METRES)):
        if value.get(name) is not None:
            yield name, _number(value[name], where + name, most)


def _objects(message: Mapping[str, Any], value: Any) -> Objects | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != _OBJECTS:
        raise InputError(f"objects: expected an object with {sorted(_OBJECTS)}")
    ids = value["ids"]
    if not isinstance(ids, list) or not all(type(i) is int and abs(i) < 2**53 for i in ids):
        raise InputError("objects: ids: expected a list of whole numbers")
    features = _features(message, value["features"], "objects: features", OBJECTS)
    pairs = {"directions": RADIANS, "sizes": METRES}
    read = {name: _pairs(value[name], f"objects: {name}", most) for name, most in pairs.items()}
    counts = {len(ids), len(features), *map(len, read.values())}
    if len(counts) > 1:
        raise InputError(f"objects: ids, features, directions, sizes differ in length: {counts}")
    return Objects(ids=np.array(ids, np.int64), features=features, **read)


def _pairs(value: Any, name: str, most: float) -> NDArray[np.float64]:
    if not isinstance(value, list):
        raise InputError(f"{name}: expected a list of pairs of numbers")
    return np.array([_numbers(pair, name, most, (2,)) for pair in value]).reshape(-1, 2)


def _directions(value: Any, name: str) -> NDArray[np.float64] | None:
    if value is None:
        return None
    return _numbers(value, name, RADIANS, range(1, VIEWS + 1))


_READERS: dict[str, Callable[[Mapping[str, Any], Any], Any]] = {
    "node": lambda _, value: text(value, "node", NAME),
    "position": lambda _, value: _numbers(value, "position", METRES, (3,)),
    "views": lambda message, value: _features(message, value, "views", VIEWS),
    "neighbours": _neighbours,
    "heading": lambda _, value: None if value is None else _number(value, "heading", RADIANS),
    "elevation": lambda _, value: _number(value, "elevation", RADIANS),
    "view_headings": lambda _, value: _directions(value, "view_headings"),
    "view_elevations": lambda _, value: _directions(value, "view_elevations"),
    "objects": _objects,
}


def write_decision(decision: Decision) -> dict[str, Any]:
    """Return a decision as a message; numbers keep all their digits."""
    return asdict(decision)


def read_decision(message: Mapping[str, Any]) -> Decision:
    """Return the decision that `write_decision` wrote."""
    known = {field.name: message[field.name] for field in fields(Decision)}
    return Decision(**{**known, "path": tuple(known["path"])})
