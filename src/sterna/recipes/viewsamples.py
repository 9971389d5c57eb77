"""Pictures that a view encoder learns from: random views of houses, with what they show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sterna.files import write_bytes
from sterna.recipes.jobs import job_pool
from sterna.world.houses.ground import ground_of
from sterna.world.houses.house import make_house
from sterna.world.houses.render import Camera, Renderer
from sterna.world.houses.seen import Cells, cells_of, seen
from sterna.world.houses.viewpoints import place_viewpoints
from sterna.world.houses.words import shown

_CELLS = ("kinds", "colours", "rooms")


class Drawing(Protocol):
    """How pictures are drawn; see `EncoderConfig`."""

    @property
    def views(self) -> int:
        """Pictures a house."""
        ...

    @property
    def side(self) -> int:
        """Side of a picture in pixels."""
        ...

    @property
    def fov(self) -> float:
        """Field of view in degrees."""
        ...

    @property
    def seed(self) -> int:
        """Seed of places and directions."""
        ...

    @property
    def threads(self) -> int:
        """Threads of the renderer."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Pictures uint8 [n, S, S, 3], what stands in their cells, what they show [n, C]."""

    pictures: NDArray[np.uint8]
    cells: Cells
    shown: NDArray[np.bool_]


def draw_sample(config: Drawing, seed: int) -> Sample:
    """Render random views of one house: half of them level, half 30 degrees up or down."""
    house = make_house(seed)
    points = place_viewpoints(house, ground_of(house))
    rng = np.random.default_rng([config.seed, seed])
    node = rng.integers(len(points.graph), size=config.views)
    heading = rng.uniform(0, 2 * np.pi, config.views)
    elevation = np.deg2rad(rng.choice([-30.0, 0.0, 0.0, 30.0], config.views))
    poses = np.column_stack([points.graph.positions[node], heading, elevation])
    camera = Camera(width=config.side, height=config.side, hfov=config.fov)
    renderer = Renderer(house, threads=config.threads)
    frames = renderer.render(camera, poses[:, :3], heading, elevation)
    cells = cells_of(seen(house, camera, frames, poses), config.side // 8)
    return Sample(pictures=frames.rgb, cells=cells, shown=shown(cells))


def draw_samples(
    config: Drawing,
    seeds: tuple[int, int],
    what: str,
    *,
    workers: int = 1,
    keep: Path | None = None,
) -> Sample:
    """Render views of several houses, with a progress bar: the same whatever `workers` (processes).

    With `keep`, a folder, houses drawn there before are not drawn again.
    """
    every = range(*seeds)
    if keep is None:
        bar = tqdm(every, desc=what, unit="house", leave=False)
        return _joined([draw_sample(config, seed) for seed in bar])
    files = [keep / f"{seed}.npz" for seed in every]
    todo = [(s, file) for s, file in zip(every, files, strict=True) if not file.is_file()]
    with job_pool(workers) as run:
        run([(_draw_to, (config, seed, file)) for seed, file in todo], what, len(files))
    return _joined([_read(file) for file in files])


def _draw_to(config: Drawing, seed: int, file: Path) -> None:
    sample = draw_sample(config, seed)
    buffer = io.BytesIO()
    cells = {name: getattr(sample.cells, name) for name in _CELLS}
    np.savez(buffer, pictures=sample.pictures, shown=sample.shown, **cells)
    write_bytes(file, buffer.getvalue())


def _read(file: Path) -> Sample:
    with np.load(file, allow_pickle=False) as held:
        cells = Cells(**{name: held[name] for name in _CELLS})
        return Sample(pictures=held["pictures"], cells=cells, shown=held["shown"])


def _joined(drawn: Sequence[Sample]) -> Sample:
    cells = {name: np.concatenate([getattr(s.cells, name) for s in drawn]) for name in _CELLS}
    return Sample(
        pictures=np.concatenate([sample.pictures for sample in drawn]),
        cells=Cells(**cells),
        shown=np.concatenate([sample.shown for sample in drawn]),
    )
