"""Protocols: what a score means, frozen, named and hashed. Same name, same numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.data.ndh import PathType
from sterna.errors import InputError

ReferenceLength = Literal["geodesic", "path", "stored"]
ReferencePath = Literal["annotated", "shortest"]
SuccessRule = Literal["radius", "goal_set", "radius_or_goal_set"]

_FLOATS = ("success_radius", "ndtw_threshold", "spl_floor")
# Fields that came after the first results were written: absent from JSON and hash when None, so
# that the protocols of those results keep their hashes.
_LATER_FLOATS = (
    *("camera_elevation", "depth_hfov", "depth_near", "depth_far"),
    *("agent_radius", "agent_height"),
)
_LATER_INTS = ("depth_width", "depth_height")
_LATER = (*_LATER_FLOATS, *_LATER_INTS, "path_type")
_OPTIONAL_FLOATS = ("forward_step", "turn_angle", "camera_hfov", *_LATER_FLOATS)
_OPTIONAL_INTS = ("max_steps", "camera_width", "camera_height", *_LATER_INTS)
_BOOLS = ("strict", "backtracking")
_TEXTS = ("name", "distance_source", "answer_key")
_CHOICES = {
    "success": SuccessRule,
    "reference_length": ReferenceLength,
    "reference_path": ReferencePath,
    "path_type": PathType,
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
    """"radius": end closer than `success_radius` to the goal; "goal_set": end on a goal node;
    "radius_or_goal_set" (SOON): as "radius", but where the end is a goal node, it is the goal."""
    success_radius: float = 3.0
    """Metres from the goal, along the graph; SDTW, SPL and OSR use it too."""
    strict: bool = True
    """True: distance < radius; False: distance <= radius."""
    reference_length: ReferenceLength
    """SPL's length: of the shortest path ("geodesic"), of the reference ("path"), or as the
    episode's file states it ("stored", VLN-CE)."""
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
    camera_elevation: float | None = None
    """Height of both cameras above the floor in metres."""
    depth_width: int | None = None
    """Pixels of the depth camera."""
    depth_height: int | None = None
    """Pixels of the depth camera."""
    depth_hfov: float | None = None
    """Horizontal field of view of the depth camera in degrees."""
    depth_near: float | None = None
    """Least depth in metres; nearer things read as this (None: 0)."""
    depth_far: float | None = None
    """Greatest depth in metres; farther things read as this."""
    agent_radius: float | None = None
    """Metres of free space the agent needs on every side."""
    agent_height: float | None = None
    """Metres of headroom."""
    path_type: PathType | None = None
    """NDH: whose path is the reference, and its end the goal; None for other tasks."""

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
            unset = key in _LATER and getattr(self, key) is None
            if not unset and getattr(self, key) not in get_args(choice):
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

    def near(self, metres: ArrayLike) -> NDArray[np.bool_]:
        """Say which distances to a goal (metres) lie within the success radius, shape kept."""
        left = np.asarray(metres, np.float64)
        return left < self.success_radius if self.strict else left <= self.success_radius

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON of all fields."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; later fields only where they are set."""
        values = asdict(self)
        return {k: v for k, v in values.items() if k not in _LATER or v is not None}

    @classmethod
    def from_dict(cls, values: Any) -> Protocol:
        """Rebuild a protocol from `to_dict`; unknown or missing fields raise `InputError`."""
        names = {field.name for field in fields(cls)}
        given = set(values) if isinstance(values, dict) else set()
        wrong = (given - names) | (names - set(_LATER) - given)
        if wrong:
            keys = sorted(wrong) if isinstance(values, dict) else "no object"
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

RXR_OFFICIAL = Protocol(
    name="RXR_OFFICIAL", reference_length="geodesic", answer_key="RxR: last viewpoint of path"
)
"""RxR as its authors score it: DTW over geodesic distances, nDTW = exp(-DTW / (3 m * nodes of the
reference)), SDTW = SR * nDTW; SPL divides by the shortest path."""

RXR_DUET = Protocol(
    name="RXR_DUET",
    reference_length="path",
    spl_floor=0.01,
    answer_key="RxR: last viewpoint of path",
)
"""RxR with the formulas of HAMT and DUET: SPL divides by the length of the annotated path."""

SOON_OFFICIAL = Protocol(
    name="SOON_OFFICIAL",
    success="radius_or_goal_set",
    reference_length="geodesic",
    spl_floor=0.01,
    answer_key="SOON: viewpoints that see the target (bboxes), else last viewpoint of path",
)
"""SOON as its authors' evaluator and DUET's score it."""

NDH_PLANNER = Protocol(
    name="NDH_PLANNER",
    reference_length="geodesic",
    answer_key="NDH: last viewpoint of planner_path; goal progress: end_panos",
    path_type="planner_path",
)
"""NDH as its authors' evaluator scores it, with planner_path ("oracle" supervision)."""

NDH_PLAYER = replace(
    NDH_PLANNER,
    name="NDH_PLAYER",
    answer_key="NDH: last viewpoint of player_path; goal progress: end_panos",
    path_type="player_path",
)
"""NDH as its authors' evaluator scores it, with player_path ("navigator" supervision)."""

NDH_TRUSTED = replace(
    NDH_PLANNER,
    name="NDH_TRUSTED",
    answer_key="NDH: last viewpoint of trusted_path; goal progress: end_panos",
    path_type="trusted_path",
)
"""NDH as its authors' evaluator scores it, with trusted_path ("mixed" supervision): the player's
where it passes the planner's end. Goal progress is the same under all three."""

NDH_HAMT = replace(
    NDH_TRUSTED,
    name="NDH_HAMT",
    success="goal_set",
    spl_floor=0.01,
    answer_key="NDH: end_panos",
)
"""NDH as HAMT scores it: success is to end on one of end_panos, and SPL divides by the way to the
nearest of them."""

_CONTINUOUS: Mapping[str, Any] = MappingProxyType(
    {
        "reference_length": "stored",
        "distance_source": "walkable area, geodesic; path lengths Euclidean",
        "max_steps": 500,
        "forward_step": 0.25,
    }
)

R2R_CE = Protocol(
    name="R2R_CE",
    answer_key="VLN-CE: goals and reference trajectories (_gt) of R2R_VLNCE_v1-3",
    **_CONTINUOUS,
    turn_angle=15,
    sliding=True,
    camera_width=224,
    camera_height=224,
    camera_hfov=90,
    camera_elevation=1.25,
    depth_width=256,
    depth_height=256,
    depth_hfov=90,
    depth_far=10,
    agent_radius=0.1,
    agent_height=1.5,
)
"""R2R in continuous environments with the task settings of VLN-CE and Habitat's defaults."""

R2R_CE_V1_2 = replace(
    R2R_CE,
    name="R2R_CE_V1_2",
    answer_key="VLN-CE: goals and reference trajectories (_gt) of R2R_VLNCE_v1-2",
)
"""R2R_CE with the episode files of the release before, whose reference trajectories are others."""

RXR_CE = Protocol(
    name="RXR_CE",
    answer_key="VLN-CE: goals and reference trajectories (_gt) of RxR_VLNCE_v0",
    **_CONTINUOUS,
    turn_angle=30,
    sliding=False,
    camera_width=640,
    camera_height=480,
    camera_hfov=79,
    camera_elevation=0.88,
    depth_width=640,
    depth_height=480,
    depth_hfov=79,
    depth_near=0.5,
    depth_far=5,
    agent_radius=0.18,
    agent_height=0.88,
)
"""RxR in continuous environments with the task settings of the RxR-Habitat challenge."""

# What others evaluate with, as their own configuration files say it; what those leave open (body,
# camera height, depth) is VLN-CE's. Scores under different protocols are not to be compared.
_VGA: Mapping[str, Any] = MappingProxyType({"camera_width": 640, "camera_height": 480})

R2R_CE_VLNR1 = replace(R2R_CE, name="R2R_CE_VLNR1", **_VGA)
"""R2R-CE with VLN-R1's released task file: 15 degrees, sliding, 640 x 480 at 90 degrees."""

R2R_CE_NAVID = replace(R2R_CE, name="R2R_CE_NAVID", turn_angle=30, **_VGA)
"""R2R-CE with NaVid's: turns of 30 degrees, 640 x 480 at 90 degrees (its rule of stopping early
is the agent's)."""

R2R_CE_STREAMVLN = replace(
    R2R_CE,
    name="R2R_CE_STREAMVLN",
    **_VGA,
    camera_hfov=79,
    depth_width=640,
    depth_height=480,
    depth_hfov=79,
)
"""R2R-CE with StreamVLN's: 15 degrees, sliding (left at its default), 640 x 480 at 79 degrees."""

RXR_CE_NAVID = replace(RXR_CE, name="RXR_CE_NAVID", sliding=True, camera_hfov=90)
"""RxR-CE with NaVid's: 30 degrees and sliding, 640 x 480 at 90 degrees."""

RXR_CE_NAVILA = replace(
    RXR_CE,
    name="RXR_CE_NAVILA",
    turn_angle=15,
    sliding=True,
    camera_width=512,
    camera_height=512,
    camera_hfov=90,
)
"""RxR-CE (English) with NaVILA's: 15 degrees and sliding, 512 x 512 at 90 degrees."""

RXR_CE_INTERNNAV = replace(RXR_CE, name="RXR_CE_INTERNNAV", turn_angle=15, sliding=True)
"""RxR-CE with InternNav's: 15 degrees, sliding (left at its default), 500 steps by its evaluator
(its environment would allow 50,000)."""

HOUSES = replace(R2R_CE_NAVID, name="HOUSES", camera_width=64, camera_height=64, max_steps=60)
"""Houses for small navigators: turns of 30 degrees, sliding, 64 x 64 pixels at 90 degrees and 60
steps. Not published: short walks that a policy of a million parameters can learn on one core."""

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
            RXR_OFFICIAL,
            RXR_DUET,
            SOON_OFFICIAL,
            NDH_PLANNER,
            NDH_PLAYER,
            NDH_TRUSTED,
            NDH_HAMT,
            R2R_CE,
            R2R_CE_V1_2,
            RXR_CE,
            R2R_CE_VLNR1,
            R2R_CE_NAVID,
            R2R_CE_STREAMVLN,
            RXR_CE_NAVID,
            RXR_CE_NAVILA,
            RXR_CE_INTERNNAV,
            HOUSES,
        )
    }
)
PROTOCOLS = MappingProxyType(_PUBLISHED)
"""The published protocols by name."""


def find_protocol(name: str) -> Protocol:
    """Return a published protocol; `InputError` lists the names if there is no such one.

    Small letters and hyphens will do, with ``-v1`` at the end or not: r2r-ce-v1 is R2R_CE.
    """
    written = name.upper().replace("-", "_").removesuffix("_V1")
    found = PROTOCOLS.get(name) or PROTOCOLS.get(written)
    if found is None:
        raise InputError(f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return found
