"""Results: scores with their errors, and all that is needed to say what they mean, in one file."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sterna import __version__
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.metrics.navigation import BINARY
from sterna.metrics.protocol import Protocol
from sterna.world.geometry import Floats

KEYS = ("instr_id", "path_id", "scan")
"""The columns of a per-episode table that are not scores."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over episodes and three standard errors of it, each None where undefined.

    `standard_error` treats episodes as independent; `path_error` and `scan_error` are clustered,
    because the instructions of one path, and the paths of one building, succeed or fail together.
    """

    mean: float
    standard_error: float | None = None
    path_error: float | None = None
    scan_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of one run under one protocol; every number in it is finite.

    `scores` maps names (see `navigation_scores`; rates are fractions) to estimates over the
    `episodes` scored, of `expected` in the split. `per_episode` is a table of columns: instr_id,
    path_id, scan, then the scores. `selection_split` names the split on which the checkpoint was
    chosen, `cost` holds numbers such as seconds and parameters.
    """

    protocol: Protocol
    scores: Mapping[str, Estimate]
    episodes: int
    expected: int
    split: str | None = None
    per_episode: Mapping[str, Sequence[Any]] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    selection_split: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    version: str = __version__

    def __post_init__(self) -> None:
        """Refuse NaN, infinity and anything JSON does not know."""
        _check_json("result", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the protocol stands with its hash."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        values["protocol"] = self.protocol.to_dict()
        values["protocol_hash"] = self.protocol.hash
        values["scores"] = {name: dict(vars(score)) for name, score in self.scores.items()}
        return values


def _check_json(place: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_json(f"{place}.{key}", item)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check_json(f"{place}[{position}]", item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}: found {value}, a result holds finite numbers only")
    elif value is not None and not isinstance(value, str | int | float):
        raise InputError(f"{place}: JSON has no {type(value).__name__}; store a number or a text")


def clustered_error(values: Floats, clusters: Sequence[Hashable]) -> float | None:
    """Standard error of the mean of values [n] that are dependent within clusters.

    With mean m, G clusters and e_g = sum over i in cluster g of (x_i - m):
    se = sqrt( G / (G - 1) * sum_g e_g^2 ) / n. None when G < 2. With one episode a cluster it is
    the plain sample standard error. (Cluster-robust variance with the G/(G-1) correction.)
    """
    numbers: dict[Hashable, int] = {}
    labels = np.array([numbers.setdefault(name, len(numbers)) for name in clusters])
    count = len(numbers)
    if count < 2:
        return None
    sums = np.bincount(labels, weights=values - math.fsum(values) / len(values), minlength=count)
    return math.sqrt(count / (count - 1) * math.fsum(sums**2)) / len(values)


def estimate(
    values: Floats, paths: Sequence[Hashable], scans: Sequence[Hashable], *, binary: bool = False
) -> Estimate:
    """Mean of values [n] with its standard errors.

    Plain error: sqrt( sum (x - m)^2 / (n - 1) / n ); for rates (`binary`) the binomial
    sqrt( m (1 - m) / n ). None when n < 2. Clustered errors as in `clustered_error`.
    """
    count = len(values)
    mean = math.fsum(values) / count
    plain = None
    if count > 1:
        spread = math.fsum((values - mean) ** 2) / (count - 1)
        plain = math.sqrt((mean * (1 - mean) if binary else spread) / count)
    return Estimate(
        mean=mean,
        standard_error=plain,
        path_error=clustered_error(values, list(zip(scans, paths, strict=True))),
        scan_error=clustered_error(values, scans),
    )


def estimates(table: Mapping[str, Sequence[Any]]) -> dict[str, Estimate]:
    """Estimate every score column of a per-episode table."""
    return {
        name: estimate(
            np.asarray(values, np.float64), table["path_id"], table["scan"], binary=name in BINARY
        )
        for name, values in table.items()
        if name not in KEYS
    }


def paired_difference(a: Result, b: Result) -> dict[str, Estimate]:
    """Estimate a - b for every score both have, pairing episodes, which removes shared difficulty.

    The differences d_i = a_i - b_i get the plain, path-clustered and scan-clustered standard
    errors of `estimate`. Raises `InputError` unless both results were scored under one protocol,
    on the same episodes, and keep their per-episode tables.
    """
    if a.protocol.hash != b.protocol.hash:
        raise InputError(
            f"cannot compare protocol {a.protocol.name} ({a.protocol.hash}) with "
            f"{b.protocol.name} ({b.protocol.hash}); score both under the same one"
        )
    if a.per_episode is None or b.per_episode is None:
        raise InputError("a paired difference needs results that keep their per-episode tables")
    ours, theirs = a.per_episode, b.per_episode
    place = {name: i for i, name in enumerate(theirs["instr_id"])}
    if set(place) != set(ours["instr_id"]):
        differ = sorted(set(place) ^ set(ours["instr_id"]))
        raise InputError(
            f"the results cover different episodes, {len(differ)} are in only one, "
            f"first {differ[0]}; score both on the same split"
        )
    order = [place[name] for name in ours["instr_id"]]
    names = [name for name in ours if name in theirs and name not in KEYS]
    difference = {
        name: np.asarray(ours[name], np.float64) - np.asarray(theirs[name], np.float64)[order]
        for name in names
    }
    return {
        name: estimate(values, ours["path_id"], ours["scan"]) for name, values in difference.items()
    }


def write_result(path: str | Path, result: Result) -> None:
    """Write a result as JSON, atomically; NaN and infinity were refused when it was made."""
    write_json(path, result.to_dict())


def read_result(path: str | Path) -> Result:
    """Read a result; `InputError` if a field is missing, unknown, of a wrong type or not finite.

    The stored protocol hash must be the hash of the stored protocol.
    """
    values = read_json(path)
    try:
        return _result(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _result(values: Any) -> Result:
    names = {f.name for f in fields(Result)} | {"protocol_hash"}
    if not isinstance(values, dict) or set(values) != names:
        differ = sorted(set(values) ^ names) if isinstance(values, dict) else "no object"
        raise InputError(f"expected exactly the fields of a result, differ: {str(differ)[:200]}")
    _check_types(values)
    values = dict(values)
    values["protocol"] = Protocol.from_dict(values["protocol"])
    stored = values.pop("protocol_hash")
    if stored != values["protocol"].hash:
        raise InputError(
            f"protocol_hash is {str(stored)[:40]!r}, but the protocol's hash is "
            f"{values['protocol'].hash}; the file was edited"
        )
    scores = {name: _estimate(name, score) for name, score in values["scores"].items()}
    _check_table(values["per_episode"], scores, values["episodes"])
    return Result(**values | {"scores": scores})


_TYPES: dict[str, tuple[type, ...]] = {
    "scores": (dict,),
    "episodes": (int,),
    "expected": (int,),
    "split": (str, type(None)),
    "per_episode": (dict, type(None)),
    "config": (dict,),
    "seed": (int, type(None)),
    "selection_split": (str, type(None)),
    "cost": (dict,),
    "version": (str,),
}


def _check_types(values: Mapping[str, Any]) -> None:
    for name, kinds in _TYPES.items():
        if type(values[name]) not in kinds:
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise InputError(f"{name} must be {wanted}, found {type(values[name]).__name__}")


def _estimate(name: str, values: Any) -> Estimate:
    keys = {f.name for f in fields(Estimate)}
    if not isinstance(values, dict) or set(values) != keys or values["mean"] is None:
        raise InputError(f"score {name}: expected {', '.join(sorted(keys))}")
    for key, value in values.items():
        if value is not None and type(value) not in (int, float):
            raise InputError(f"score {name}: {key} must be a number or null")
    return Estimate(**values)


def _check_table(table: Any, scores: Mapping[str, Estimate], count: int) -> None:
    if table is None:
        return
    if set(table) != {*KEYS, *scores}:
        raise InputError("per_episode: expected instr_id, path_id, scan and one column a score")
    for name, column in table.items():
        if not isinstance(column, list) or len(column) != count:
            raise InputError(f"per_episode.{name}: expected a list of {count} values")
        kinds = (int, float) if name in scores else (int, str)
        if not all(type(value) in kinds for value in column):
            raise InputError(
                f"per_episode.{name}: expected {kinds[0].__name__} or {kinds[1].__name__}"
            )
