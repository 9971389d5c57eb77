"""What a policy of actions sees while it is timed: noise, or frames from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.bench.episode import Shape
from sterna.errors import InputError

Frame = dict[str, NDArray[Any]]
SENTENCE = "words"
_KEPT = ("words", "ids", "recent")


def frames_of(
    shape: Shape, inputs: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, Any]
) -> tuple[list[int], list[Frame]]:
    """Return word ids of a sentence and `shape.steps` observations, one row each.

    From ``shape.frames`` (npz: the inputs by name, one row a frame, as `recipes.latency` writes it)
    or made up: noise of the right sizes.
    """
    wanted = [name for name in inputs if name not in _KEPT]
    if shape.frames is not None:
        with np.load(shape.frames, allow_pickle=False) as file:
            found = {name: file[name] for name in (*wanted, SENTENCE)}
        if len(found[SENTENCE]) < shape.steps:
            raise InputError(
                f"{shape.frames}: {len(found[SENTENCE])} frames, not {shape.steps}; lower --steps"
            )
        ids = [int(i) for i in found[SENTENCE][0] if i]
        rows = range(shape.steps)
        return ids, [{name: found[name][row][None] for name in wanted} for row in rows]
    rng = np.random.default_rng([shape.seed, 3])
    most = min(shape.words, int(sizes.get("max_words", shape.words)))
    ids = [int(i) for i in rng.integers(2, max(3, len(sizes.get("words", ())) + 2), most)]
    return ids, [{name: _drawn(inputs[name], rng) for name in wanted} for _ in range(shape.steps)]


def _drawn(wanted: Mapping[str, Any], rng: np.random.Generator) -> NDArray[Any]:
    if wanted["dtype"] == "uint8":
        drawn: NDArray[Any] = rng.integers(0, 256, wanted["shape"]).astype(np.uint8)
    else:
        drawn = rng.uniform(-1, 1, wanted["shape"]).astype(wanted["dtype"])
    return drawn
