"""One house in the field's own files: graph, instructions, trajectories, boxes.

A part is a folder of such files for one house; `sterna.recipes.makehouses` makes and joins parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sterna.data.boxes import Boxes, SeenObject
from sterna.data.episodes import Episode
from sterna.data.r2r import write_r2r
from sterna.data.vlnce import Trajectory, write_trajectories, write_vlnce
from sterna.errors import InputError
from sterna.metrics.protocol import R2R_CE
from sterna.world.follower import follow
from sterna.world.frames import Action, Vec3, turned
from sterna.world.geometry import Floats
from sterna.world.graph import NavGraph
from sterna.world.houses.language import Described, HouseMap, Sent, object_boxes
from sterna.world.houses.viewpoints import Viewpoints
from sterna.world.houses.words import name_vectors
from sterna.world.space import Space

GOAL_RADIUS = 3.0  # metres, VLN-CE's
PER_HOUSE = 1000  # path ids a house has to itself
TWELFTH = math.pi / 6  # described headings count twelfths of a turn
NEAR = 0.5  # metres from a waypoint at which a walker turns to the next
PATIENCE = 500  # actions of a reference trajectory, VLN-CE's limit


def connectivity(viewpoints: Viewpoints) -> list[dict[str, object]]:
    """Return the content of a Matterport connectivity file; what is linked counts as visible."""
    graph = viewpoints.graph
    linked = np.zeros((len(graph),) * 2, bool)
    linked[np.repeat(np.arange(len(graph)), np.diff(graph.indptr)), graph.indices] = True
    places = (viewpoints.floor + [0, 0, 1] * viewpoints.height[:, None]).round(3)
    return [
        {
            "image_id": name,
            "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
            "included": True,
            "visible": links,
            "unobstructed": links,
            "height": height,
        }
        for name, (x, y, z), links, height in zip(
            graph.viewpoints,
            places.tolist(),
            linked.tolist(),
            viewpoints.height.tolist(),
            strict=True,
        )
    ]


def r2r_episodes(
    graph: NavGraph, described: Sequence[Described], first: int, split: str
) -> list[Episode]:
    """Return R2R's episodes of described paths, one an instruction; path ids begin at `first`."""
    return [
        _episode(graph, one, first + number, str(first + number), wording, split)
        for number, one in enumerate(described)
        for wording in range(len(one.instructions))
    ]


def reverie_episodes(
    graph: NavGraph, sent: Sequence[Sent], first: int, split: str
) -> list[Episode]:
    """Return REVERIE's episodes of errands, one an instruction; path ids begin at `first`."""
    return [
        replace(
            _episode(graph, one, first + number, f"{first + number}_{one.thing}", wording, split),
            object_id=one.thing,
        )
        for number, one in enumerate(sent)
        for wording in range(len(one.instructions))
    ]


def _episode(
    graph: NavGraph, one: Described | Sent, path_id: int, name: str, wording: int, split: str
) -> Episode:
    return Episode(
        instr_id=f"{name}_{wording}",
        scan=graph.scan,
        path=tuple(graph.viewpoints[node] for node in one.path),
        heading=round(one.heading * TWELFTH, 6),
        instruction=one.instructions[wording],
        path_id=path_id,
        distance=one.distance,
        split=split,
    )


def boxes_of(house: HouseMap) -> Boxes:
    """Return what every viewpoint has in sight within 3 m, by view, as REVERIE's box files."""
    graph, things = house.graph, house.house.things
    return Boxes(
        {
            (graph.scan, viewpoint): [
                SeenObject(
                    object_id=thing,
                    name=things[thing].kind.replace(" ", "#"),
                    views=tuple(view for view, _ in seen),
                    boxes=tuple(box for _, box in seen),
                )
                for thing, seen in sorted(object_boxes(house, node).items())
            ]
            for node, viewpoint in enumerate(graph.viewpoints)
        }
    )


class ThingWords:
    """Embeds the name of a kind of thing as instructions' words are; see `houses.words`."""

    name, digest = "words of houses", "words of houses"

    def encode(self, sentences: Sequence[str], /) -> NDArray[np.float32]:
        """Return vectors [n, 128] of names."""
        return name_vectors(sentences)


def continuous_episodes(
    viewpoints: Viewpoints, ground: Space, episodes: Sequence[Episode]
) -> list[Episode]:
    """Return R2R's episodes as VLN-CE's: positions on the floor, geodesic length, one goal."""
    graph = viewpoints.graph
    out = []
    for episode in episodes:
        points = _points(ground.snap(viewpoints.floor[[graph.index(v) for v in episode.path]]))
        path, wording = episode.instr_id.split("_")
        out.append(
            replace(
                episode,
                instr_id=str(int(path) * 10 + int(wording)),
                path=(),
                position=points[0],
                waypoints=points,
                goal_positions=points[-1:],
                goal_radius=GOAL_RADIUS,
                distance=round(ground.geodesic(points[0], points[-1]), 6),
                scene=f"houses/{graph.scan}/{graph.scan}.glb",
            )
        )
    return out


def _points(places: Floats) -> tuple[Vec3, ...]:
    return tuple((x, y, z) for x, y, z in places.round(6).tolist())


def trajectories(ground: Space, episodes: Sequence[Episode]) -> dict[str, Trajectory]:
    """Walk every episode's waypoints by the shortest-path follower; one walk a path."""
    known: dict[int | str, Trajectory] = {}
    for episode in episodes:
        if episode.path_id not in known:
            known[episode.path_id] = _trajectory(ground, episode)
    return {episode.instr_id: known[episode.path_id] for episode in episodes}


def _trajectory(ground: Space, episode: Episode) -> Trajectory:
    step, angle = R2R_CE.forward_step, math.radians(R2R_CE.turn_angle or 0)
    assert step is not None and episode.position is not None
    position, heading = np.array([episode.position]), np.array([episode.heading])
    actions, positions = list[int](), [position[0]]
    goals = _goals(ground, episode)
    goal, last = next(goals)
    while len(actions) < PATIENCE:
        while not last and ground.distances(position, goal)[0] < NEAR:
            goal, last = next(goals)
        action = int(
            follow(ground, position, heading, goal, forward_step=step, turn_angle=angle)[0]
        )
        if action == Action.STOP and not last:  # no step brings it nearer to this waypoint
            goal, last = next(goals)
            continue
        actions.append(action)
        if action == Action.STOP:
            return Trajectory(actions=np.array(actions), positions=np.array(positions))
        if action == Action.FORWARD:
            position = ground.move(position, heading, step).positions
            positions.append(position[0])
        else:
            heading = turned(heading, np.array([action]), angle)
    raise InputError(f"episode {episode.instr_id}: no way along its path in {PATIENCE} actions")


def _goals(ground: Space, episode: Episode) -> Iterator[tuple[Vec3, bool]]:
    """Yield the waypoints behind the start, and whether each is the last."""
    last = len(episode.waypoints) - 1
    for number, point in enumerate(episode.waypoints[1:], 1):
        yield point, number == last


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where one split of one house stands inside a part's folder."""

    folder: Path
    split: str

    @property
    def r2r(self) -> Path:
        """R2R's entries."""
        return self.folder / f"r2r_{self.split}.json"

    @property
    def vlnce(self) -> Path:
        """VLN-CE's episodes."""
        return self.folder / f"vlnce_{self.split}.json"

    @property
    def trajectories(self) -> Path:
        """VLN-CE's reference trajectories."""
        return self.folder / f"vlnce_{self.split}_gt.json"

    @property
    def reverie(self) -> Path:
        """REVERIE's entries."""
        return self.folder / f"reverie_{self.split}.json"

    def write(
        self, viewpoints: Viewpoints, ground: Space | None, episodes: Sequence[Episode]
    ) -> None:
        """Write R2R's files of these episodes, and VLN-CE's too where a ground is given."""
        write_r2r(self.r2r, episodes)
        if ground is None:
            return
        walked = continuous_episodes(viewpoints, ground, episodes)
        write_vlnce(self.vlnce, walked)
        write_trajectories(self.trajectories, trajectories(ground, walked))
