"""What policies of actions and navigators see while they are timed: made up, or from a file."""

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


SPACING = 3
"""Steps of a walk between two answers."""


def walk_of(
    shape: Shape, size: tuple[int, int]
) -> tuple[str, NDArray[np.uint8], list[int], list[int]]:
    """Return a walk to answer along: instruction, frames [S, rows, columns, 3], actions, stops.

    From ``shape.frames`` (npz: ``instruction``, ``frames``, ``taken``, as `recipes.latency` writes
    it) or made up. `stops` are the steps at which an answer is asked for, `shape.steps` of them,
    `SPACING` apart (closer where a recorded walk is shorter).
    """
    if shape.frames is not None:
        with np.load(shape.frames, allow_pickle=False) as file:
            instruction = str(file["instruction"])
            frames, taken = file["frames"], file["taken"].tolist()
        if len(frames) < shape.steps:
            raise InputError(
                f"{shape.frames}: a walk of {len(frames)} steps, not {shape.steps}; lower --steps"
            )
    else:
        frames = drawn_walk(size, 1 + SPACING * (shape.steps - 1), shape.seed)
        taken = [step % 3 + 1 for step in range(len(frames))]
        instruction = "go to the red sofa in the kitchen"
    end = min(len(frames) - 1, SPACING * (shape.steps - 1))
    stops = np.linspace(0, end, shape.steps).astype(int).tolist()
    return instruction, frames, taken, stops


def drawn_walk(size: tuple[int, int], steps: int, seed: int) -> NDArray[np.uint8]:
    """Return frames uint8 [steps, rows, columns, 3] of a made-up walk: colours that drift."""
    rng = np.random.default_rng([seed, 7])
    coarse = rng.integers(0, 256, (steps + 4, 4, 4, 3))
    rows, columns = size
    out = np.zeros((steps, rows, columns, 3), np.uint8)
    for step in range(steps):
        mixed = coarse[step : step + 4].mean(0)
        whole = np.kron(mixed, np.ones((-(-rows // 4), -(-columns // 4), 1)))
        out[step] = whole[:rows, :columns]
    return out


def _drawn(wanted: Mapping[str, Any], rng: np.random.Generator) -> NDArray[Any]:
    if wanted["dtype"] == "uint8":
        drawn: NDArray[Any] = rng.integers(0, 256, wanted["shape"]).astype(np.uint8)
    else:
        drawn = rng.uniform(-1, 1, wanted["shape"]).astype(wanted["dtype"])
    return drawn
