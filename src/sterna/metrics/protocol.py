"""Protocols: what a score means, frozen, named and hashed. Same name, same numbers."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from sterna.errors import InputError

ReferenceLength = Literal["geodesic", "path"]
ReferencePath = Literal["annotated", "shortest"]
SuccessRule = Literal["radius", "goal_set"]

_FLOATS = ("success_radius", "ndtw_threshold", "spl_floor")
_OPTIONAL_FLOATS = ("forward_step", "turn_angle", "camera_hfov")
_OPTIONAL_INTS = ("max_steps", "camera_width", "camera_height")
_BOOLS = ("strict", "backtracking")
_TEXTS = ("name", "distance_source", "answer_key")
_CHOICES = {
    "success": SuccessRule,
    "reference_length": ReferenceLength,
    "reference_path": ReferencePath,
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that decides a score, besides the trajectory itself.

    A published name cannot be given to other settings: `Protocol` then raises `InputError`.
    `hash` is written into every result. Lengths are in metres, angles in degrees; the fields from
    `forward_step` on describe continuous tasks and are None for tasks on a navigation graph.
    """

    name: str
    """Short name, printed beside every score."""
    success: SuccessRule = "radius"
    """"radius": end closer than `success_radius` to the goal; "goal_set": end on a goal node."""
    success_radius: float = 3.0
    """Metres from the goal, along the graph; SDTW, SPL and OSR use it too."""
    strict: bool = True
    """True: distance < radius; False: distance <= radius."""
    reference_length: ReferenceLength
    """SPL's length: of the shortest path start-goal ("geodesic") or of the reference ("path")."""
    spl_floor: float = 0.0
    """Metres below which SPL's denominator never falls (0.01 in DUET's evaluator)."""
    reference_path: ReferencePath = "annotated"
    """Ground truth of DTW, nDTW, SDTW and CLS: the annotated path or a shortest path."""
    ndtw_threshold: float = 3.0
    """Metres that scale DTW in nDTW and decay coverage in CLS."""
    max_steps: int | None = None
    """Decisions a trajectory may hold; a longer one is refused. None: no limit."""
    backtracking: bool = True
    """False: a trajectory that visits a viewpoint twice is refused."""
    distance_source: str = "navigation graph, Euclidean edges"
    """How distances are measured."""
    answer_key: str
    """Which file says where the goal is."""
    forward_step: float | None = None
    """Metres of one forward action."""
    turn_angle: float | None = None
    """Degrees of one turn action."""
    sliding: bool | None = None
    """Whether the agent slides along walls."""
    camera_width: int | None = None
    """Pixels."""
    camera_height: int | None = None
    """Pixels."""
    camera_hfov: float | None = None
    """Horizontal field of view in degrees."""

    def __post_init__(self) -> None:
        """Check every field; make numbers canonical so that 3 and 3.0 hash alike."""
        for key in _FLOATS:
            object.__setattr__(self, key, self._number(key))
        for key in _OPTIONAL_FLOATS:
            if getattr(self, key) is not None:
                object.__setattr__(self, key, self._number(key))
        for key in _OPTIONAL_INTS:
            value = getattr(self, key)
            if value is not None and (type(value) is not int or value < 1):
                raise self._wrong(key, "a positive integer or null")
        self._check_words()
        published = _PUBLISHED.get(self.name)
        if published is not None and self != published:
            raise InputError(
                f"protocol {self.name}: the settings are not the published ones of that name; "
                "give changed settings a name of their own"
            )

    def _check_words(self) -> None:
        for key in _BOOLS:
            if not isinstance(getattr(self, key), bool):
                raise self._wrong(key, "true or false")
        if self.sliding is not None and not isinstance(self.sliding, bool):
            raise self._wrong("sliding", "true, false or null")
        for key in _TEXTS:
            if not isinstance(getattr(self, key), str) or not getattr(self, key):
                raise self._wrong(key, "a text")
        for key, choice in _CHOICES.items():
            if getattr(self, key) not in get_args(choice):
                raise self._wrong(key, " or ".join(get_args(choice)))

    def _number(self, key: str) -> float:
        value = getattr(self, key)
        lowest = 0.0 if key == "spl_floor" else math.ulp(0.0)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not lowest <= value < 1e9:
            raise self._wrong(key, "a finite positive number")
        return float(value)

    def _wrong(self, key: str, expected: str) -> InputError:
        found = str(getattr(self, key))[:60]
        return InputError(
            f"protocol {str(self.name)[:60]}: {key} must be {expected}, found {found!r}"
        )

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON of all fields."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Protocol:
        """Rebuild a protocol from `to_dict`; unknown or missing fields raise `InputError`."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            keys = sorted(set(values) ^ names) if isinstance(values, dict) else "no object"
            raise InputError(
                f"protocol: expected exactly Protocol's fields, these differ: {str(keys)[:200]}; "
                "the result may come from another version of sterna"
            )
        return cls(**values)


_PUBLISHED: dict[str, Protocol] = {}

R2R_MATTERSIM = Protocol(
    name="R2R_MATTERSIM", reference_length="geodesic", answer_key="R2R: last viewpoint of path"
)
"""R2R as the Matterport3D simulator's evaluator and the leaderboard score it."""

R2R_DUET = Protocol(
    name="R2R_DUET",
    reference_length="path",
    spl_floor=0.01,
    answer_key="R2R: last viewpoint of path",
)
"""R2R as DUET's evaluator scores it: SPL divides by the length of the annotated path."""

R4R_DUET = Protocol(
    name="R4R_DUET",
    reference_length="path",
    spl_floor=0.01,
    answer_key="R4R: last viewpoint of path",
)
"""R4R with DUET's formulas; the annotated path is the joined, roundabout one."""

REVERIE_DUET = Protocol(
    name="REVERIE_DUET",
    success="goal_set",
    reference_length="path",
    spl_floor=0.01,
    answer_key="REVERIE v1: viewpoints that see the object (BBox)",
)
"""REVERIE as DUET scores it: success is standing where the object is visible, without radius."""

REVERIE_OFFICIAL = Protocol(
    name="REVERIE_OFFICIAL",
    success="goal_set",
    reference_length="geodesic",
    answer_key="REVERIE v1: viewpoints that see the object (BBox)",
)
"""REVERIE as its authors' evaluator scores it: SPL and RGSPL divide by the shortest path."""

REVERIE_V2_DUET = Protocol(
    name="REVERIE_V2_DUET",
    success="goal_set",
    reference_length="path",
    spl_floor=0.01,
    answer_key="REVERIE v2: viewpoints that see the object (BBox of v1)",
)
"""The second annotation release with DUET's formulas; its goals come from the first one's boxes."""

_PUBLISHED.update(
    {
        p.name: p
        for p in (
            R2R_MATTERSIM,
            R2R_DUET,
            R4R_DUET,
            REVERIE_DUET,
            REVERIE_OFFICIAL,
            REVERIE_V2_DUET,
        )
    }
)
PROTOCOLS = MappingProxyType(_PUBLISHED)
"""The published protocols by name."""


def find_protocol(name: str) -> Protocol:
    """Return a published protocol; `InputError` lists the names if there is no such one."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise InputError(
            f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}"
        ) from None
