"""A top-down picture of an episode: what was asked, what was annotated, where the agent went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.files import write_bytes, write_text
from sterna.show import layers, panel
from sterna.show.layers import Drawing
from sterna.show.legend import legend_layer
from sterna.show.marks import labels_layer, mark_layers
from sterna.show.plan import make_plan
from sterna.show.png import png
from sterna.show.scene import (
    Layer,
    Scene,
    Shape,
    Text,
    blend,
    one_line,
    rectangle,
    wrap,
)
from sterna.show.svg import svg
from sterna.show.walk import Hops, read_walk
from sterna.world.geometry import Floats
from sterna.world.graph import NavGraph

WIDTH = 1200  # pixels
SIDE = 28  # pixels: page margin
MAP_WIDTH = 850
PANEL = SIDE + MAP_WIDTH + 26
INSTRUCTION_LINES = 8
CLIMB = 1.0  # metres: a walk that goes further up or down than this gets a height profile


def draw_episode(
    graph: NavGraph,
    episode: Episode,
    hops: Hops | None,
    out: str | Path,
    scores: Mapping[str, object] | None = None,
) -> Path:
    """Draw an episode from above into an ``.svg`` or ``.png`` file, 1200 pixels wide; return it.

    `hops` is the walk: viewpoints, one a step, or the viewpoints passed in each decision, start
    included (`sterna.show.walk.read_walk`); None draws the annotation alone. `scores` (name ->
    value, for instance NE, SR, SPL) are printed as given. Raises `InputError` for another suffix,
    an unknown viewpoint, a hop that is no edge, or a walk that begins elsewhere.
    """
    path = Path(out)
    if path.suffix.lower() not in (".svg", ".png"):
        raise InputError(f"{path}: expected a name ending in .svg or .png, found {path.suffix!r}")
    scene = episode_scene(graph, episode, hops, scores)
    if path.suffix.lower() == ".svg":
        write_text(path, svg(scene))
    else:
        write_bytes(path, png(scene))
    return path


def episode_scene(
    graph: NavGraph,
    episode: Episode,
    hops: Hops | None = None,
    scores: Mapping[str, object] | None = None,
) -> Scene:
    """Return the picture of an episode as a scene; arguments as for `draw_episode`."""
    title, bottom = header(episode)
    drawing = place_drawing(graph, episode, hops, bottom + 14)
    left, top, right, low = drawing.plan.box
    frame = rectangle((left, top, right, low), "#ffffff", blend(layers.NODE, 0.5), 1)
    side, side_bottom = side_layers(drawing, scores or {}, top)
    parts = [
        title,
        Layer(name="frame", shapes=(frame,)),
        layers.success_layer(drawing),
        layers.graph_layer(drawing),
        layers.reference_layer(drawing),
        layers.rings_layer(drawing),
        *layers.walk_layers(drawing),
        *mark_layers(drawing),
        panel.scale_bar(drawing.plan),
        labels_layer(drawing),
        *side,
    ]
    return Scene(
        width=WIDTH,
        height=math.ceil(max(low, side_bottom) + SIDE),
        title=one_line(f"{episode.instr_id} in {graph.scan}"),
        description=one_line(episode.instruction),
        layers=tuple(parts),
    )


def header(episode: Episode) -> tuple[Layer, float]:
    """Return the instruction as title, the episode's names below it, and the y where they end."""
    shapes: list[Shape] = []
    y = SIDE + 18.0
    for row in wrap(episode.instruction, 21, WIDTH - 2 * SIDE, INSTRUCTION_LINES):
        shapes.append(Text(at=(SIDE, y), text=row, size=21))
        y += 28
    names = [f"episode {episode.instr_id}", f"scan {episode.scan}"]
    names += [f"split {episode.split}"] if episode.split else []
    line = one_line(", ".join(names))
    shapes.append(Text(at=(SIDE, y), text=line, size=14, colour=panel.QUIET))
    return Layer(name="title", shapes=tuple(shapes)), y


def place_drawing(graph: NavGraph, episode: Episode, hops: Hops | None, top: float) -> Drawing:
    """Find the nodes to draw and the part of the scan that shows them all."""
    if not episode.path:
        raise InputError(f"episode {episode.instr_id}: expected a path, found none; check the file")
    reference = tuple(map(graph.index, episode.path))
    walk = None if hops is None else read_walk(graph, episode, hops)
    # A test split names the start alone: its goal is not known.
    known = episode.goals or (episode.path[-1:] if len(episode.path) > 1 else ())
    goals = tuple(map(graph.index, known))
    nodes = [*reference, *(walk.nodes if walk else ()), *goals]
    shown = [graph.positions[nodes]]
    if goals and not episode.goals:
        shown.append(_round(graph.positions[goals[0]], layers.SUCCESS))
    plan = make_plan(np.concatenate(shown), SIDE, top, MAP_WIDTH, (520.0, 860.0))
    return Drawing(
        graph=graph, episode=episode, reference=reference, goals=goals, walk=walk, plan=plan
    )


def _round(centre: Floats, radius: float) -> Floats:
    corners = np.array([[-radius, -radius, 0.0], [radius, radius, 0.0]], np.float64)
    return np.add(corners, centre, dtype=np.float64)


def side_layers(
    drawing: Drawing, scores: Mapping[str, object], top: float
) -> tuple[list[Layer], float]:
    """Return what stands right of the map (scores, legend, heights) and the y where it ends."""
    parts: list[Layer] = []
    y, width = top, WIDTH - SIDE - PANEL
    if scores:
        part, y = panel.score_table(scores, PANEL, y)
        parts.append(part)
        y += 14
    part, y = legend_layer(drawing, PANEL, y, width)
    parts.append(part)
    climbs = np.ptp(drawing.graph.positions[list(drawing.nodes), 2])
    if climbs > CLIMB:
        walks: list[tuple[Sequence[int], str, float]] = [(drawing.reference, layers.BAND, 7)]
        walks += [(drawing.walk.nodes, layers.WALKED, 2.5)] if drawing.walk else []
        box = (float(PANEL), y + 14, float(WIDTH - SIDE), y + 170)
        parts.append(panel.height_profile(drawing.graph, walks, box))
        y += 170
    return parts, y
