"""A policy from observations to actions, exported: pictures and a sentence in, a chunk out.

One row a call. What the router knows of the past, the chunk before, is kept here from step to step.

Legend: T steps of a chunk, A width of an action, U units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.runtime.engine import Array, session_of
from sterna.edge.runtime.folder import ACTOR, holding, threshold_of
from sterna.errors import InputError

PAD, UNKNOWN = 0, 1
"""Word numbers of what fills a sentence up and of words that are not in the vocabulary."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Acted:
    """What to do now: `actions` [T, A]; `gates` bool [U], which units ran; `flops` of them."""

    actions: Array
    gates: NDArray[np.bool_]
    flops: float


class Actor:
    """An exported policy, opened. `start` with a sentence, then `step` from view to view."""

    def __init__(
        self,
        folder: str | Path,
        name: str = "onnx",
        *,
        threads: int = 1,
        rho: float | None = None,
    ) -> None:
        """Open an engine of a folder, proven first; `rho` is its budget (default: the folder's).

        Raises `InputError` for another kind of folder, an unknown engine, or an unknown budget.
        """
        root = Path(folder)
        content = holding(root, ACTOR, name, threads)
        self.name, self.threads, self.manifest = name, threads, content
        self._take(content, threshold_of(content["routes"], rho, root))
        self._session = session_of(root / content["graphs"][name]["policy"], threads)
        self._known = {entry.name for entry in self._session.get_inputs()}

    @classmethod
    def open(
        cls, folder: str | Path, name: str = "onnx", *, threads: int = 1, rho: float | None = None
    ) -> Actor:
        """Open a folder."""
        return cls(folder, name, threads=threads, rho=rho)

    def _take(self, content: Mapping[str, Any], threshold: float) -> None:
        self.inputs: Mapping[str, Mapping[str, Any]] = content["inputs"]
        self.sizes, self.routes = content["sizes"], content["routes"]
        self.threshold = threshold
        self._words: dict[str, NDArray[np.int64]] = {}
        self._recent = np.zeros(self.inputs["recent"]["shape"], np.float32)

    def start(self, instruction: str | Sequence[int]) -> None:
        """Begin an episode with a sentence, or with its word ids; the chunk before is forgotten."""
        self._recent = np.zeros(self.inputs["recent"]["shape"], np.float32)
        name = "words" if "words" in self.inputs else "ids"
        ids = self._read(instruction) if isinstance(instruction, str) else list(instruction)
        if not ids:
            raise InputError("actor: an empty sentence; say what is to be done")
        if name == "words":
            most = int(self.sizes["max_words"])
            ids = (ids + [PAD] * most)[:most]
        self._words = {name: np.array([ids], np.int64)}

    def _read(self, sentence: str) -> list[int]:
        if "words" not in self.sizes:
            raise InputError("actor: this policy has no vocabulary of its own; give word ids")
        number = {word: place + 2 for place, word in enumerate(self.sizes["words"])}
        return [number.get(word, UNKNOWN) for word in sentence.lower().split()]

    def step(self, **seen: NDArray[Any]) -> Acted:
        """Return the next chunk from an observation (``images``, ``proprio``), one row or bare."""
        if not self._words:
            raise InputError("actor: no episode is under way; call start(sentence) first")
        given = {name: self._fitted(name, value) for name, value in seen.items()}
        feed = {**given, **self._words, "recent": self._recent}
        missing = set(self.inputs) - set(feed)
        if missing:
            raise InputError(f"actor: the observation lacks {', '.join(sorted(missing))}")
        actions, gates = self.run(feed)
        self._recent = actions.reshape(1, -1).astype(np.float32)
        ran = np.array(self.routes["unit_flops"])[gates].sum()
        return Acted(actions=actions, gates=gates, flops=float(self.routes["base_flops"] + ran))

    def run(self, feed: Mapping[str, NDArray[Any]]) -> tuple[Array, NDArray[np.bool_]]:
        """Return actions [T, A] and gates [U] of a whole feed, one row."""
        whole = {**feed, "threshold": np.array(self.threshold, np.float32)}
        found = self._session.run(None, {k: v for k, v in whole.items() if k in self._known})
        if len(found) > 1:
            return found[0], found[1]
        gates = np.zeros(len(self.routes["units"]), np.bool_)
        gates[self.routes["static"]] = True
        return found[0], gates

    def _fitted(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        if name not in self.inputs or name == "recent":
            known = ", ".join(sorted(set(self.inputs) - {"recent", "words", "ids"}))
            raise InputError(f"actor: unknown observation {name!r}; it takes {known}")
        wanted = self.inputs[name]
        array = np.asarray(value)
        if array.ndim == len(wanted["shape"]) - 1:
            array = array[None]
        same = len(array.shape) == len(wanted["shape"]) and all(
            isinstance(side, str) or side == found
            for side, found in zip(wanted["shape"], array.shape, strict=True)
        )
        if not same or (array.dtype.kind != np.dtype(wanted["dtype"]).kind):
            raise InputError(
                f"actor: {name} must be {wanted['dtype']} {wanted['shape']}, found {array.dtype} "
                f"{list(array.shape)}"
            )
        return np.ascontiguousarray(array, np.dtype(wanted["dtype"]))
