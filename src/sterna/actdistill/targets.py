"""What a teacher's units said about every sample, on disk, by sample.

A folder holds ``targets.json`` (ids, rows of every sample, sizes) and for each unit one flat file
of float32 numbers, mapped into memory when read: ``semantic_03.f32`` [rows, S] and, where the unit
acts, ``action_03.f32`` (all predictions end to end, since maps differ in size). A sample is found
by its id, so samples may be shuffled; one that is missing is an error, never a zero.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.actdistill.graph import Signals
from sterna.actdistill.stack import Choices, Chunk, Kind, Pointer, Stack
from sterna.errors import InputError
from sterna.files import read_json, write_json

FORMAT = "sterna-actdistill-targets-1"
INDEX = "targets.json"


def kind_values(kind: Kind) -> dict[str, Any]:
    """Return a kind as JSON values."""
    return {"name": type(kind).__name__.lower(), **vars(kind)}


def rows_by_sample(owners: Tensor | None, samples: int) -> list[NDArray[np.int64]]:
    """Return the rows of each sample of a batch, in order; `owners` are `Stack.owners`'."""
    if owners is None:
        return [np.array([n]) for n in range(samples)]
    found = owners.cpu().numpy()
    return [np.flatnonzero(found == n) for n in range(samples)]


class TargetWriter:
    """Writes a folder of targets; it is there when `finish` was called, and not before."""

    def __init__(self, folder: Path, stack: Stack, kind: Kind, about: Mapping[str, Any]) -> None:
        """Begin a folder; `about` is kept in the index."""
        self.folder, self.stack, self.kind, self.about = folder, stack, kind, dict(about)
        self._draft = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        self._ids: list[str] = []
        self._rows: list[list[int]] = []
        self._lengths: dict[int, list[int]] = {n: [] for n, u in enumerate(stack.units) if u.acts}

    def add(self, ids: Sequence[str], batch: Any, signals: Signals) -> None:
        """Append the signals of a batch of samples."""
        phases = self.stack.phases
        places = [
            rows_by_sample(self.stack.owners(batch, phase), len(ids)) for phase in range(phases)
        ]
        self._ids += ids
        self._rows += [[len(places[phase][n]) for phase in range(phases)] for n in range(len(ids))]
        for unit, semantic in signals.semantic.items():
            order = np.concatenate(places[self.stack.units[unit].phase])
            self._append("semantic", unit, semantic.float().cpu().numpy()[order])
            if unit in signals.action:
                action = signals.action[unit].float().cpu().numpy()[order]
                flat = action.reshape(len(action), -1)
                if isinstance(self.kind, Pointer):
                    self._lengths[unit] += [flat.shape[1]] * len(flat)
                self._append("action", unit, flat)

    def _append(self, name: str, unit: int, values: NDArray[np.float32]) -> None:
        with (self._draft / f"{name}_{unit:02d}.f32").open("ab") as file:
            file.write(np.ascontiguousarray(values, np.float32).tobytes())

    def finish(self) -> TargetStore:
        """Put the folder in its place and open it; `InputError` for an id that came twice."""
        if len(set(self._ids)) != len(self._ids):
            raise InputError("targets: a sample id occurs twice; ids must be unique")
        index = {
            "format": FORMAT,
            "ids": self._ids,
            "rows": self._rows,
            "kind": kind_values(self.kind),
            "units": [unit.name for unit in self.stack.units],
            "phases": [unit.phase for unit in self.stack.units],
            "acts": [unit.acts for unit in self.stack.units],
            "lengths": {str(unit): found for unit, found in self._lengths.items() if found},
            "about": self.about,
        }
        write_json(self._draft / INDEX, index)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._draft.rename(self.folder)
        return TargetStore(self.folder)


class TargetStore:
    """Reads targets by sample; see the module."""

    def __init__(self, folder: Path) -> None:
        """Map a folder; `InputError` for one that is missing, of another kind, or not whole."""
        if not (folder / INDEX).is_file():
            raise InputError(
                f"{folder}: no targets there (no {INDEX}); probe the teacher first "
                "(sterna actdistill probe)"
            )
        index: Any = read_json(folder / INDEX)
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise InputError(f"{folder / INDEX}: not {FORMAT}; probe the teacher again")
        self.folder, self.about, self.units = folder, index["about"], index["units"]
        self.place = {name: n for n, name in enumerate(index["ids"])}
        self._phases, self._acts = index["phases"], index["acts"]
        self.kind = index["kind"]
        rows = np.array(index["rows"], np.int64).reshape(len(self.place), -1)
        self._ends = np.vstack([np.zeros((1, rows.shape[1]), np.int64), rows.cumsum(0)])
        self._semantic: dict[int, NDArray[np.float32]] = {}
        self._action: dict[int, NDArray[np.float32]] = {}
        self._starts: dict[int, NDArray[np.int64]] = {}
        for unit in range(len(self.units)):
            self._map(unit, index["lengths"])

    def _map(self, unit: int, lengths: Mapping[str, list[int]]) -> None:
        total = int(self._ends[-1, self._phases[unit]])
        self._semantic[unit] = self._flat("semantic", unit).reshape(total, -1)
        if self._acts[unit]:
            flat = self._flat("action", unit)
            if str(unit) in lengths:
                starts = np.concatenate([[0], np.cumsum(lengths[str(unit)])])
            else:
                starts = np.arange(total + 1) * (len(flat) // max(1, total))
            if starts[-1] != len(flat) or len(starts) != total + 1:
                raise InputError(f"{self.folder}: action_{unit:02d}.f32 is not whole; probe again")
            self._action[unit], self._starts[unit] = flat, starts

    def _flat(self, name: str, unit: int) -> NDArray[np.float32]:
        file = self.folder / f"{name}_{unit:02d}.f32"
        if not file.is_file() or file.stat().st_size % 4:
            raise InputError(f"{file}: missing or not whole; probe the teacher again")
        if not file.stat().st_size:
            return np.zeros(0, np.float32)
        return np.memmap(file, np.float32, "r")

    def check(self, stack: Stack, ids: Sequence[str]) -> None:
        """Raise `InputError` unless these are targets of this stack, for all of these samples."""
        names = [unit.name for unit in stack.units]
        if names != self.units:
            raise InputError(
                f"{self.folder}: targets of {len(self.units)} units ({self.units[0]} ...), the "
                f"teacher has {len(names)} ({names[0]} ...); probe this teacher"
            )
        missing = [name for name in ids if name not in self.place]
        if missing:
            raise InputError(
                f"{self.folder}: no targets for sample {missing[0]!r} and {len(missing) - 1} more "
                f"of {len(ids)}; probe the samples that the student learns from"
            )

    def read(
        self, stack: Stack, ids: Sequence[str], batch: Any, widths: Mapping[int, int]
    ) -> Signals:
        """Return what the teacher said about a batch, row for row.

        `widths[unit]` is N of the batch's tokens where actions point at tokens; only of such units
        actions are read. `InputError` for a sample that is not there, or whose rows are others than
        it was probed with.
        """
        self.check(stack, ids)
        numbers = [self.place[name] for name in ids]
        semantic: dict[int, Tensor] = {}
        action: dict[int, Tensor] = {}
        orders: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for phase in set(self._phases):
            orders[phase] = self._rows(stack, batch, ids, numbers, phase)
        for unit in self._semantic:
            rows, place = orders[self._phases[unit]]
            values = np.empty((len(rows), self._semantic[unit].shape[1]), np.float32)
            values[place] = self._semantic[unit][rows]
            semantic[unit] = torch.from_numpy(values)
            if unit in self._action and (unit in widths or not isinstance(stack.kind, Pointer)):
                action[unit] = self._actions(stack.kind, unit, rows, place, widths.get(unit, 0))
        return Signals(semantic, action)

    def _rows(
        self, stack: Stack, batch: Any, ids: Sequence[str], numbers: Sequence[int], phase: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows of the files, sample by sample, and where in the batch each belongs."""
        places = rows_by_sample(stack.owners(batch, phase), len(ids))
        found = []
        for name, number, place in zip(ids, numbers, places, strict=True):
            begin, end = self._ends[number, phase], self._ends[number + 1, phase]
            if end - begin != len(place):
                raise InputError(
                    f"{self.folder}: sample {name!r} was probed with {end - begin} rows, this "
                    f"batch has {len(place)}; the samples have changed, probe again"
                )
            found.append(np.arange(begin, end))
        return np.concatenate(found), np.concatenate(places)

    def _actions(
        self,
        kind: Kind,
        unit: int,
        rows: NDArray[np.int64],
        place: NDArray[np.int64],
        width: int,
    ) -> Tensor:
        flat, starts = self._action[unit], self._starts[unit]
        if isinstance(kind, Pointer):
            out = np.full((len(rows), width), -math.inf, np.float32)
            for row, target in zip(rows.tolist(), place.tolist(), strict=True):
                values = flat[starts[row] : starts[row + 1]]
                fits = min(width, len(values))
                if np.isfinite(values[fits:]).any():
                    raise InputError(
                        f"{self.folder}: a target has {len(values)} options, the batch {width}; "
                        "the samples have changed, probe again"
                    )
                out[target, :fits] = values[:fits]
            return torch.from_numpy(out)
        size = int(starts[1]) if len(starts) > 1 else 0
        values = np.empty((len(rows), size), np.float32)
        values[place] = flat.reshape(-1, size)[rows]
        return torch.from_numpy(values).view(len(rows), *_shape(self.kind))


def _shape(kind: Mapping[str, Any]) -> tuple[int, int]:
    if kind["name"] == Chunk.__name__.lower():
        return kind["steps"], kind["size"]
    assert kind["name"] == Choices.__name__.lower()
    return kind["slots"], kind["classes"]


def dump(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON holds them (for comparing)."""
    out: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return out
