"""A small navigator's vision tower learns to see: what stands where in a frame, and how far away.

It is trained on pictures of houses with the renderer's own labels (`world.houses.seen`, as the
houses' view encoder is), seen by the walker's camera. Each token must say, by products with the
vectors of names (`world.houses.words`), which kinds of things, colours and rooms its part of the
frame shows. The language model's words begin with the same vectors, so it can look for what it is
told of from its first step on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from sterna.data.ego.store import EgoCamera
from sterna.errors import InputError
from sterna.models.encoder import DTYPES, Precision
from sterna.models.navigator.folder import save
from sterna.models.navigator.pixels import Frames
from sterna.models.navigator.small import SmallConfig, small_model, small_processor
from sterna.models.navigator.vlm import VlmNavigator
from sterna.train.log import RunLog
from sterna.world.houses.ground import ground_of
from sterna.world.houses.house import make_house
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.render import Camera, Renderer
from sterna.world.houses.scene import STRUCTURE
from sterna.world.houses.seen import COLOUR_NAMES, ROOMS, Cells, cells_of, seen
from sterna.world.houses.words import name_vectors
from sterna.world.talk.images import token_grid
from sterna.world.talk.prompts import Wording

Numbers = NDArray[np.float32]
_FARTHEST = 20.0  # metres; what lies beyond counts as this
_NAMES = {"kinds": CLASSES, "colours": COLOUR_NAMES, "rooms": ROOMS}


@dataclass(frozen=True, kw_only=True)
class SightConfig:
    """How a tower learns to see."""

    seeds: tuple[int, int] = (0, 200)
    """Houses it learns from: first seed, and the first that is none of them."""
    held_out: tuple[int, int] = (500_000, 500_004)
    """Houses it is scored on."""
    views: int = 400
    """Frames a house, from random places in random directions."""
    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    precision: Precision = "fp32"
    """bf16 is faster where the processor has it."""
    seed: int = 0
    threads: int = 1
    """Threads that render."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name, (first, last) in (("seeds", self.seeds), ("held_out", self.held_out)):
            if not 0 <= first < last:
                raise InputError(f"sight: {name} must be a range of seeds, found {first}-{last}")
        if self.seeds[0] < self.held_out[1] and self.held_out[0] < self.seeds[1]:
            raise InputError("sight: houses it is scored on must not be among those it learns")
        for name in ("views", "epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"sight: {name} must be at least 1, found {getattr(self, name)}")


SMALL_SIGHT = SightConfig(seeds=(0, 60), views=500, epochs=1, learning_rate=5e-4)
"""For the tower of `SMALL_SIZES`, which names things before; distances are what it has to learn."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Frames uint8 [n, h, w, 3], labels of their A cells, log of metres to them [n, A]."""

    frames: Frames
    cells: Cells
    depth: Numbers


def look(config: SightConfig, camera: EgoCamera, seed: int, side: int) -> Looks:
    """Render random frames of one house with labels in side x side cells."""
    house = make_house(seed)
    rng = np.random.default_rng([config.seed, seed])
    places = ground_of(house).random_points(config.views, rng)
    eyes = places + np.array([0.0, 0.0, camera.elevation])
    heading = rng.uniform(0, 2 * np.pi, config.views)
    poses = np.column_stack([eyes, heading, np.zeros(config.views)])
    lens = Camera(width=camera.width, height=camera.height, hfov=camera.hfov)
    frames = Renderer(house, threads=config.threads).render(lens, eyes, heading)
    metres = np.log(np.clip(frames.depth, 0.1, _FARTHEST)).astype(np.float32)
    rows, columns = (size // side for size in metres.shape[1:])
    cut = metres[:, : rows * side, : columns * side]
    depth = cut.reshape(len(cut), side, rows, side, columns).mean((2, 4)).reshape(len(cut), -1)
    return Looks(
        frames=frames.rgb, cells=cells_of(seen(house, lens, frames, poses), side), depth=depth
    )


def looks(
    config: SightConfig, camera: EgoCamera, seeds: tuple[int, int], side: int, what: str
) -> Looks:
    """Render frames of several houses, with a progress bar."""
    drawn = [
        look(config, camera, seed, side)
        for seed in tqdm(range(*seeds), desc=what, unit="house", leave=False)
    ]
    cells = {n: np.concatenate([getattr(part.cells, n) for part in drawn]) for n in _NAMES}
    return Looks(
        frames=np.concatenate([part.frames for part in drawn]),
        cells=Cells(**cells),
        depth=np.concatenate([part.depth for part in drawn]),
    )


class Said(NamedTuple):
    """What tokens say: logits of kinds, colours and rooms [n, A, .], log of metres [n, A]."""

    kinds: Tensor
    colours: Tensor
    rooms: Tensor
    depth: Tensor


class Reader(nn.Module):
    """Reads names off tokens; it is thrown away when the tower has learnt.

    The vectors of names are fixed; how sharply they are read, how common each name is and what
    "none" looks like (no colour, outdoors) are learnt.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sharpness = nn.ParameterDict({n: nn.Parameter(torch.tensor(8.0)) for n in _NAMES})
        self.common = nn.ParameterDict()
        self.none = nn.ParameterDict()
        for name, names in _NAMES.items():
            self.register_buffer(name, torch.from_numpy(name_vectors(names, width)))
            extra = 0 if name == "kinds" else 1
            self.common[name] = nn.Parameter(torch.zeros(len(names) + extra))
            self.none[name] = nn.Parameter(torch.zeros(extra, width))
        self.metres = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Said:
        """Read tokens [n, A, D]."""
        logits = {}
        for name in _NAMES:
            vectors = torch.cat([getattr(self, name), self.none[name]])
            logits[name] = self.sharpness[name] * (tokens @ vectors.T) + self.common[name]
        return Said(**logits, depth=self.metres(tokens)[..., 0])


def sight_loss(said: Said, batch: Looks) -> Tensor:
    """Return cross-entropy of kinds, colours and rooms a cell, and the error of log metres."""
    parts = []
    for name in _NAMES:
        share = torch.from_numpy(getattr(batch.cells, name)).float()
        share = share / share.sum(-1, keepdim=True)
        logits = getattr(said, name).float().flatten(0, 1)
        parts.append(F.cross_entropy(logits, share.flatten(0, 1).to(logits.device)))
    depth = torch.from_numpy(batch.depth).to(said.depth.device)
    return torch.stack(parts).sum() + F.l1_loss(said.depth.float(), depth)


def teach_sight(
    navigator: VlmNavigator, camera: EgoCamera, config: SightConfig, log: RunLog | None = None
) -> dict[str, float]:
    """Train a small navigator's tower to see, in place; return its scores on unseen houses.

    `InputError` unless frames become square grids of tokens.
    """
    grid = token_grid(camera.height, camera.width, navigator.processor.images)
    if grid[0] != grid[1]:
        raise InputError(f"sight: frames must be square, found {camera.height} x {camera.width}")
    began = time.perf_counter()
    given = looks(config, camera, config.seeds, grid[0], "frames to learn to see")
    rendered = time.perf_counter() - began
    reader = _fit(navigator, given, config, log)
    seconds = {"rendering": rendered, "learning": time.perf_counter() - began - rendered}
    unseen = looks(config, camera, config.held_out, grid[0], "unseen houses")
    return score_sight(navigator, reader, unseen) | seconds


def _fit(navigator: VlmNavigator, given: Looks, config: SightConfig, log: RunLog | None) -> Reader:
    torch.manual_seed(config.seed)
    reader = Reader(navigator.core.config.text_config.hidden_size).to(navigator.device)
    learnt = [*navigator.tower.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(learnt, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    size = min(config.batch_size, len(given.frames))
    steps = config.epochs * (len(given.frames) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps, pct_start=0.1
    )
    navigator.tower.requires_grad_(True)
    bar = tqdm(_batches(config, len(given.frames), size), total=steps, desc="sight", unit="step")
    for number, rows in enumerate(bar):
        batch = _mirrored(_take(given, rows), flip=bool(number % 2))
        device = navigator.device.type
        with torch.autocast(device, DTYPES[config.precision], enabled=config.precision != "fp32"):
            said = reader(navigator.features(batch.frames))
        loss = sight_loss(said, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        schedule.step()
        if log is not None and (number % 50 == 0 or number == steps - 1):
            log.write("sight", number, {"loss": loss.item()})
    return reader


def _batches(config: SightConfig, count: int, size: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng([config.seed, 1])
    for _ in range(config.epochs):
        order = rng.permutation(count)
        for first in range(0, count // size * size, size):
            yield np.sort(order[first : first + size])


def _take(given: Looks, rows: NDArray[np.int64] | slice) -> Looks:
    cells = {name: getattr(given.cells, name)[rows] for name in _NAMES}
    return Looks(frames=given.frames[rows], cells=Cells(**cells), depth=given.depth[rows])


def _mirrored(batch: Looks, *, flip: bool) -> Looks:
    """Mirror frames and labels: a house seen in a mirror is a house."""
    if not flip:
        return batch
    side = int(batch.depth.shape[1] ** 0.5)

    def turned(values: NDArray[Any]) -> NDArray[Any]:
        shape = (len(values), side, side, *values.shape[2:])
        return values.reshape(shape)[:, :, ::-1].reshape(values.shape)

    cells = {name: turned(getattr(batch.cells, name)) for name in _NAMES}
    frames = np.ascontiguousarray(batch.frames[:, :, ::-1])
    return Looks(frames=frames, cells=Cells(**cells), depth=turned(batch.depth))


def learn_sight(
    small: SmallConfig, camera: EgoCamera, config: SightConfig, out: Path
) -> dict[str, float]:
    """Make a small navigator whose tower has learnt to see, in `out`; return its scores.

    Its language model is as it began: `sterna sft --start.eyes` takes the tower alone.
    """
    processor = small_processor(small)
    navigator = VlmNavigator(
        small_model(small, processor, seed=config.seed),
        processor,
        Wording(turn_angle=30, style="short"),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    log = RunLog(out.with_name(out.name + "-log"), tensorboard=False)
    scores = teach_sight(navigator, camera, config, log)
    log.write("sight-scores", 0, scores)
    save(navigator, out, notes=f"A tower that has learnt to see: {scores}")
    return scores


@torch.no_grad()
def score_sight(navigator: VlmNavigator, reader: Reader, unseen: Looks) -> dict[str, float]:
    """Return accuracies by cell: kinds and colours where a thing is, rooms, error of log metres.

    A cell's truth is what most of it shows; `things` are the cells where that is no part of the
    building.
    """
    navigator.eval()
    said = [
        reader(navigator.features(unseen.frames[first : first + 64]))
        for first in range(0, len(unseen.frames), 64)
    ]
    found = Said(*(torch.cat(parts).float().cpu() for parts in zip(*said, strict=True)))
    truth = {n: torch.from_numpy(getattr(unseen.cells, n)).argmax(-1) for n in _NAMES}
    things = truth["kinds"] >= len(STRUCTURE)
    right = {name: getattr(found, name).argmax(-1) == truth[name] for name in _NAMES}
    return {
        "kinds": float(right["kinds"][things].float().mean()),
        "colours": float(right["colours"][things].float().mean()),
        "rooms": float(right["rooms"].float().mean()),
        "cells": float(right["kinds"].float().mean()),
        "depth": float((found.depth - torch.from_numpy(unseen.depth)).abs().mean()),
        "things": float(things.float().mean()),
    }
