"""Navigation graphs: where an agent can stand, how far things are, and what it can step to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from sterna.errors import InputError
from sterna.files import find_file, read_json
from sterna.world.geometry import Floats, Ints, directions, edge_views


@dataclass(frozen=True, kw_only=True, eq=False)
class NavGraph:
    """The navigation graph of one scan; immutable.

    Nodes are the included viewpoints in file order, `positions` [N, 3] in metres (z up), rounded to
    float32 as the simulator's are (distances are not). Directed edges stand in CSR form (`indptr`
    [N+1], `indices` [E]) in the order in which a sweep over the 36 views meets them, which is
    DUET's candidate order. Per edge: absolute `heading` and `elevation` in radians, `distance` in
    metres, the nearest `view` (0-35) and the `angular_distance` to its centre. `distances` [N, N]
    are geodesic metres (inf if unreachable), `next_hop` [N, N] the first node on a shortest path
    (-1 if unreachable, itself on the diagonal).
    """

    scan: str
    viewpoints: tuple[str, ...]
    positions: Floats
    indptr: Ints
    indices: Ints
    heading: Floats
    elevation: Floats
    distance: Floats
    angular_distance: Floats
    view: Ints
    distances: Floats
    next_hop: NDArray[np.int32]
    order: dict[str, int] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of viewpoints."""
        return len(self.viewpoints)

    def index(self, viewpoint: str) -> int:
        """Return the node number of a viewpoint id; `InputError` if the scan has no such one."""
        try:
            return self.order[viewpoint]
        except (KeyError, TypeError):
            raise InputError(
                f"scan {self.scan}: unknown viewpoint {viewpoint!r}; expected one of its "
                f"{len(self)} included viewpoints (is the path from another scan or release?)"
            ) from None

    def neighbours(self, node: int) -> Ints:
        """Return the nodes one hop away, in candidate order."""
        return self.indices[self.indptr[node] : self.indptr[node + 1]]

    def edges(self, node: int) -> slice:
        """Return the slice of the edge arrays that belongs to a node."""
        return slice(int(self.indptr[node]), int(self.indptr[node + 1]))

    def has_edge(self, start: int, end: int) -> bool:
        """Say whether two nodes are one hop apart."""
        return bool(np.any(self.neighbours(start) == end))

    def shortest_path(self, start: int, end: int) -> list[int]:
        """Return the nodes of a shortest path, both ends included; `InputError` if none."""
        if not math.isfinite(self.distances[start, end]):
            raise InputError(
                f"scan {self.scan}: no path from {self.viewpoints[start]} to "
                f"{self.viewpoints[end]}; the navigation graph is not connected there"
            )
        path = [start]
        while path[-1] != end:
            path.append(int(self.next_hop[path[-1], end]))
        return path

    def length(self, nodes: Sequence[int]) -> float:
        """Return the length in metres of a walk, hop by hop along geodesics."""
        return float(self.distances[nodes[:-1], nodes[1:]].sum()) if len(nodes) > 1 else 0.0


def build_graph(scan: str, viewpoints: Sequence[str], positions: Floats, linked: Any) -> NavGraph:
    """Build a graph from positions [N, 3] and a boolean adjacency matrix [N, N]."""
    start, end = np.nonzero(linked)
    # The simulator keeps positions in single precision, and agents see angles between those;
    # the evaluators' distances come from the file's own numbers.
    placed = positions.astype(np.float32).astype(np.float64)
    heading, elevation, _ = directions(placed[end] - placed[start])
    distance = directions(positions[end] - positions[start])[2]
    view, apart, first, first_apart = edge_views(heading, elevation)
    rank = np.lexsort((first_apart, first, start))
    start, end = start[rank], end[rank]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(start, minlength=len(viewpoints)))])
    weights = csr_array((distance[rank], end, indptr), shape=(len(viewpoints),) * 2)
    distances, before = dijkstra(weights, return_predecessors=True)
    graph = NavGraph(
        scan=scan,
        viewpoints=tuple(viewpoints),
        positions=placed,
        indptr=indptr.astype(np.int64),
        indices=end.astype(np.int64),
        heading=heading[rank],
        elevation=elevation[rank],
        distance=distance[rank],
        angular_distance=apart[rank],
        view=view[rank],
        distances=distances,
        next_hop=_next_hops(before),
        order={viewpoint: i for i, viewpoint in enumerate(viewpoints)},
    )
    for array in vars(graph).values():
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
    return graph


def _next_hops(before: NDArray[np.int32]) -> NDArray[np.int32]:
    # Edges are undirected, so the predecessor of i on a shortest path j -> i is i's next hop to j.
    hops = before.T.copy()
    hops[hops < 0] = -1
    np.fill_diagonal(hops, np.arange(len(hops)))
    return hops


def _entry(path: Path, position: int, entry: Any, count: int) -> tuple[str, bool, Any, Any]:
    def wrong(expected: str, found: Any) -> InputError:
        return InputError(
            f"{path}: entry {position}: expected {expected}, found {str(found)[:60]!r}; "
            "fetch the connectivity file again"
        )

    if not isinstance(entry, dict):
        raise wrong("an object with image_id, pose, included, unobstructed", entry)
    name, pose = entry.get("image_id"), entry.get("pose")
    links, included = entry.get("unobstructed"), entry.get("included")
    if not isinstance(name, str) or not name:
        raise wrong("image_id to be a viewpoint id", name)
    if not isinstance(included, bool):
        raise wrong("included to be true or false", included)
    if not isinstance(pose, list) or len(pose) != 16 or not all(map(_finite, pose)):
        raise wrong("pose to hold 16 finite numbers", pose)
    if (
        not isinstance(links, list)
        or len(links) != count
        or not all(isinstance(b, bool) for b in links)
    ):
        raise wrong(f"unobstructed to hold {count} booleans", links)
    return name, included, (pose[3], pose[7], pose[11]), links


def _finite(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e9
        and math.isfinite(value)
    )


def read_graph(path: str | Path, scan: str | None = None) -> NavGraph:
    """Read a Matterport connectivity file ``<scan>_connectivity.json`` (or ``.json.gz``).

    An edge joins two included viewpoints that are `unobstructed`; its length is the Euclidean
    distance of the positions ``pose[3], pose[7], pose[11]`` (as DUET's and the simulator's
    evaluators build it). Raises `InputError` for a malformed file.
    """
    file = find_file(path)
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: expected a list of viewpoints, found {type(content).__name__}")
    rows = [_entry(file, i, entry, len(content)) for i, entry in enumerate(content)]
    keep = np.array([included for _, included, _, _ in rows], bool)
    names = [name for name, included, _, _ in rows if included]
    if len(set(names)) != len(names):
        raise InputError(f"{file}: a viewpoint id stands twice; fetch the connectivity file again")
    linked = np.array([links for _, _, _, links in rows], bool)[keep][:, keep]
    np.fill_diagonal(linked, False)
    if not np.array_equal(linked, linked.T):
        raise InputError(f"{file}: unobstructed is not symmetric; fetch the file again")
    positions = np.array([xyz for _, _, xyz, _ in rows], np.float64)[keep].reshape(-1, 3)
    return build_graph(scan or file.name.split("_connectivity")[0], names, positions, linked)


def connectivity_dir(root: str | Path) -> Path:
    """Find the folder of connectivity files in a data folder; `InputError` if there is none."""
    base = Path(root)
    places = [base / "connectivity", base / "mp3d" / "connectivity", base / "R2R" / "connectivity"]
    for place in [*places, base]:
        if next(place.glob("*_connectivity.json*"), None) is not None:
            return place
    raise InputError(
        f"{base}: no *_connectivity.json found here, in connectivity/ or in mp3d/connectivity/; "
        "the Matterport3DSimulator repository offers the files (see `sterna data check`)"
    )


@cache
def _cached(file: Path, scan: str, stamp: tuple[int, int]) -> NavGraph:
    return read_graph(file, scan)


def load_graph(folder: str | Path, scan: str) -> NavGraph:
    """Return the graph of one scan from a folder of connectivity files, read once a process."""
    try:
        file = find_file(Path(folder) / f"{scan}_connectivity.json")
    except (InputError, ValueError, OSError):
        raise InputError(
            f"scan {scan[:40]!r}: no {str(scan)[:40]}_connectivity.json in {folder}; check the "
            "annotation's scan name or fetch the missing connectivity file"
        ) from None
    stat = file.stat()
    return _cached(file, scan, (stat.st_mtime_ns, stat.st_size))
