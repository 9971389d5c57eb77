"""A walk in continuous space as a video: the view with instruction and actions beside the map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sterna.envs.continuous import Camera, FrameSource
from sterna.errors import InputError
from sterna.show.floor import house_floors, house_scale, plane_floor
from sterna.show.layout import Layout, make_layout, side_by_side, size_of
from sterna.show.page import Page
from sterna.show.recording import Recording
from sterna.show.scene import Box
from sterna.show.video import check_name, write_video
from sterna.world.geometry import Floats
from sterna.world.houses.render import Renderer
from sterna.world.houses.scene import House

FPS = 4.0
_SMALLER = 0.75
NO_PICTURES = "nothing can be rendered here: the path alone, on an empty plane, seen from above"


def draw_recording(
    recording: Recording,
    out: Sequence[str | Path],
    *,
    frames: FrameSource | None = None,
    renderer: Renderer | None = None,
    agent: str = "",
    fps: float = FPS,
) -> list[Path]:
    """Write a walk into ``.mp4``, ``.gif`` or ``.png`` files (its last frame); return the paths.

    `frames` draws what the agent sees, with the protocol's camera in more pixels; `renderer` is
    that of the house whose floor plan is the map. Without them the path is drawn on an empty plane.
    `agent` names who walked. Raises `InputError` for a name that is no video's.
    """
    files = [check_name(path) for path in out]
    page, layout = make_page(recording, frames, renderer, agent)
    if all(file.suffix.lower() == ".png" for file in files):
        t = len(recording.positions) - 1
        last = None if frames is None else next(_views(recording, frames, layout, [t]))
        pictures: Iterable[Image.Image] = [page.frame(t, last)]
    else:
        views = None
        if frames is not None:
            views = _views(recording, frames, layout, range(len(recording.positions)))
        walked = page.frames(views)
        # One file takes the pictures as they come: a long walk does not fit in memory.
        pictures = walked if len(files) == 1 else list(walked)
    return [write_video(file, pictures, fps) for file in files]


def make_page(
    recording: Recording, frames: FrameSource | None, renderer: Renderer | None, agent: str = ""
) -> tuple[Page, Layout]:
    """Return what draws the frames of a recording; arguments as for `draw_recording`."""
    rule, episode = recording.protocol, recording.episode
    aspect = None
    if frames is not None:
        if rule.camera_width is None or rule.camera_height is None or rule.camera_hfov is None:
            raise InputError(f"protocol {rule.name}: no camera; the agent's view needs one")
        aspect = rule.camera_width / rule.camera_height
    layout = make_layout(episode.instruction, aspect)
    tiles: tuple[Box, ...] = (layout.map,)
    if renderer is not None:
        tiles = _tiles(renderer.house, layout.map)
        floors = house_floors(renderer.house, renderer, *size_of(tiles[0]))
    else:
        floors = [plane_floor(_seen(recording), *size_of(layout.map))]
    names = [f"episode {episode.instr_id}", f"scan {episode.scan}", rule.name]
    names += [f"walked by {agent}"] if agent else []
    note = "" if renderer is not None else NO_PICTURES if frames is None else "no floor plan"
    judged = frames is not None or renderer is not None
    return Page(recording, floors, tiles, layout, ", ".join(names), note, judged), layout


def _tiles(house: House, box: Box) -> tuple[Box, ...]:
    """Show storeys beside each other, unless that makes them much smaller."""
    parts = side_by_side(box, len(house.floors))
    alone, beside = (house_scale(house, *size_of(part)) for part in (box, parts[0]))
    return parts if beside > _SMALLER * alone else (box,)


def _seen(recording: Recording) -> Floats:
    return np.concatenate([recording.positions, recording.reference, recording.goals])


def _views(
    recording: Recording, frames: FrameSource, layout: Layout, steps: Sequence[int]
) -> Iterator[Image.Image]:
    """Yield what the agent sees after so many actions, as large as the page has room for."""
    assert layout.view is not None
    rule, (width, height) = recording.protocol, size_of(layout.view)
    camera = Camera(
        width=width, height=height, hfov=rule.camera_hfov or 0.0,
        elevation=rule.camera_elevation or 0.0,
    )  # fmt: skip
    for t in steps:
        eye = recording.positions[t] + np.array([0.0, 0.0, camera.elevation])
        heading = float(recording.headings[t])
        yield Image.fromarray(frames(recording.episode.scan, eye, heading, camera, "rgb"))
