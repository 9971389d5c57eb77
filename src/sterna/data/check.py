"""Check a data folder: what is there, is it whole, does it fit together, where to get the rest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.boxes import Boxes, read_boxes
from sterna.data.episodes import Episode
from sterna.data.fgr2r import read_fgr2r
from sterna.data.layout import Layout, MissingDataError
from sterna.data.ndh import read_ndh
from sterna.data.objects import read_objects
from sterna.data.r2r import check_episodes, read_r2r
from sterna.data.r4r import read_r4r
from sterna.data.reverie import read_reverie, with_goals
from sterna.data.rxr import Role, read_rxr
from sterna.data.soon import read_soon
from sterna.data.sources import (
    PUBLISHED,
    PUBLISHED_BOXES,
    PUBLISHED_GRAPHS,
    PUBLISHED_VLNCE,
    SOURCES,
)
from sterna.data.textobs import observed_scans, read_observations
from sterna.data.viewfile import HDF5_ERRORS, open_hdf5, unreadable
from sterna.data.views import ViewStore
from sterna.data.vlnce import read_trajectories, read_vlnce
from sterna.errors import InputError
from sterna.files import read_json
from sterna.world.graph import NavGraph, load_graph

_SAMPLE = 200
_BOXES = "reverie boxes"
_READERS = {
    "r2r": read_r2r,
    "r4r": read_r4r,
    "fgr2r": read_fgr2r,
    "reverie": read_reverie,
    "reverie-v2": read_reverie,
}
_UNCOUNTED: dict[str, tuple[Callable[..., list[Episode]], tuple[str, ...]]] = {
    "soon": (
        read_soon,
        ("train", "val_seen_instrs", "val_unseen_instrs", "val_unseen_house", "test"),
    ),
    "ndh": (read_ndh, ("train", "val_seen", "val_unseen", "test")),
}
_RXR: dict[Role, tuple[str, ...]] = {
    "guide": ("train", "val_seen", "val_unseen", "test_standard", "test_challenge"),
    "follower": ("train", "val_seen", "val_unseen"),
}
_ANNOTATIONS = {*_READERS, *_UNCOUNTED, "rxr"}
"""Sources of which one is enough to work with, beside the graphs."""


MADE = "houses.json"
"""The file by which a folder says that it was made from seeds."""
IMPORTED = "building.json"
"""The file by which a folder says that it holds somebody's own building."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the report. `status`: ok, differs (from the published counts), missing, wrong."""

    source: str
    what: str
    status: str
    found: str
    published: str = ""


@dataclass(kw_only=True)
class DataReport:
    """All lines; `ok` when nothing is wrong and there are graphs and at least one annotation."""

    root: str
    rows: list[Row] = field(default_factory=list)
    made: bool = False
    """Made from seeds or imported (`MADE`, `IMPORTED`): nothing published to compare it with."""

    @property
    def ok(self) -> bool:
        """Whether the folder can be worked with: the exit status of ``sterna data check``."""
        good = [row for row in self.rows if row.status in ("ok", "differs")]
        present = {row.source for row in good if row.what != _BOXES}
        whole = all(row.status != "wrong" for row in self.rows)
        return whole and "graphs" in present and bool(present & _ANNOTATIONS)

    @property
    def missing(self) -> list[str]:
        """Names of the sources of which nothing was found, in the order of `SOURCES`."""
        if self.made:
            return []
        present = {row.source for row in self.rows if row.status != "missing"}
        return [
            name
            for name, source in SOURCES.items()
            if (source.checked_as or name) not in present
            and not (Path(self.root) / source.folder).is_dir()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values (for ``--json``)."""
        told = ("name", "where", "size", "terms")
        missing = {name: SOURCES[name] for name in self.missing}
        offers = {n: {key: getattr(source, key) for key in told} for n, source in missing.items()}
        rows = [asdict(row) for row in self.rows]
        return {"root": self.root, "ok": self.ok, "rows": rows, "missing": offers}

    def text(self) -> str:
        """Return the report as a table, followed by where each missing data set is offered."""
        cells = [("", "what", "found", "" if self.made else "as published")]
        shown = [row for row in self.rows if row.source not in self.missing]
        cells += [(row.status, row.what, row.found, row.published) for row in shown]
        widths = [min(70, max(len(row[i]) for row in cells)) for i in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        if self.missing:
            lines += ["", "Not found here (sterna data get NAME fetches, or says what to do):"]
        terms: dict[str, list[str]] = {}
        for name in self.missing:
            source = SOURCES[name]
            lines += [f"  {name}: {source.name}, {source.size}", f"    {source.where}"]
            terms.setdefault(source.terms, []).append(name)
        lines += ["", "Their terms:"] if terms else []
        lines += [f"  {', '.join(names)}: {said}" for said, names in terms.items()]
        verdict = "usable" if self.ok else "NOT usable: see the lines above"
        return "\n".join([*lines, "", f"{self.root}: {verdict}"])


def check_data(root: str | os.PathLike[str], *, full: bool = False) -> DataReport:
    """Check every data set in a folder of any known layout; never raises for bad data inside it.

    Counts are compared with the published ones ("differs" is no fault: your own data may have
    other counts), paths are walked on the graphs, view stores are checked for shape, NaN and
    coverage of the graphs (`full` reads every viewpoint, else a sample of 200), text observations
    for coverage; some viewpoint must see each target object of REVERIE. Houses made from seeds, and
    buildings of one's own, are not compared with anything. `InputError` only if `root` is no
    folder.
    """
    layout = Layout(root)
    report = DataReport(root=str(layout.root))
    graphs: dict[str, NavGraph] = {}
    _try(report, "graphs", "graphs", lambda: _check_graphs(layout, graphs))
    boxes: list[Boxes] = []
    _try(report, "reverie", _BOXES, lambda: _check_boxes(layout, graphs, boxes))
    for task, splits in PUBLISHED.items():
        for split in splits:
            check = partial(_check_split, layout, task, split, graphs, boxes)
            _try(report, task, f"{task} {split}", check)
    _try(report, "textobs", "text observations", lambda: _check_textobs(layout, graphs))
    for path in layout.feature_files():
        check = partial(_check_views, path, graphs, full)
        _try(report, "features", f"features {path.name}", check)
    for split in PUBLISHED_VLNCE:
        _try(report, "vlnce", f"vlnce {split}", partial(_check_vlnce, layout, split))
    _check_others(report, layout, graphs)
    if any((layout.root / name).is_file() for name in (MADE, IMPORTED)):
        report.made = True
        report.rows = [_as_made(row) for row in report.rows if row.status != "missing"]
    return report


def _check_others(report: DataReport, layout: Layout, graphs: Mapping[str, NavGraph]) -> None:
    for task, (reader, splits) in _UNCOUNTED.items():
        for split in splits:
            check = partial(_check_uncounted, layout, task, split, reader, graphs)
            _try(report, task, f"{task} {split}", check)
    for role, splits in _RXR.items():
        for split in splits:
            what = f"{split} {role}"
            check = partial(_check_rxr, layout, split, role, graphs)
            _try(report, "rxr", f"rxr {what}", check)
            if split != "test_standard":  # the discrete leaderboard's own
                check = partial(_check_rxrce, layout, split, role)
                _try(report, "rxr-ce", f"rxr-ce {what}", check)


def _as_made(row: Row) -> Row:
    return replace(row, status="ok" if row.status == "differs" else row.status, published="")


def _try(report: DataReport, source: str, what: str, check: Callable[[], Row]) -> None:
    """Add the row a check returns; an absent file is "missing", a faulty one "wrong"."""
    try:
        row = check()
    except InputError as error:
        absent = isinstance(error, MissingDataError)
        status, found = ("missing", "") if absent else ("wrong", str(error))
        row = Row(source=source, what=what, status=status, found=found)
    report.rows.append(row)


def _check_graphs(layout: Layout, graphs: dict[str, NavGraph]) -> Row:
    folder = layout.connectivity
    # All or none: a path in a scan whose graph is faulty is not a fault of the path.
    graphs.update({scan: load_graph(folder, scan) for scan in layout.scans})
    found = {
        "scans": len(graphs),
        "viewpoints": sum(len(graph) for graph in graphs.values()),
        "edges": sum(len(graph.indices) for graph in graphs.values()) // 2,
    }
    published = {name: PUBLISHED_GRAPHS[name] for name in found}
    return _row("graphs", "graphs", found, published)


def _check_boxes(layout: Layout, graphs: Mapping[str, NavGraph], read: list[Boxes]) -> Row:
    boxes = read_boxes(layout.boxes)
    read.append(boxes)
    seen = [thing for place in boxes.viewpoints for thing in boxes.objects(*place)]
    count = sum(len(thing.boxes) for thing in seen)
    found = {"viewpoints": len(boxes), "objects": len(seen), "view boxes": count}
    row = _row("reverie", _BOXES, found, PUBLISHED_BOXES)
    return _covered(row, _connected(graphs), [f"{scan}_{name}" for scan, name in boxes.viewpoints])


def _check_split(
    layout: Layout,
    task: str,
    split: str,
    graphs: Mapping[str, NavGraph],
    boxes: Sequence[Boxes],
) -> Row:
    """Read one split with its own reader, count it, walk its paths, look for its objects."""
    file = layout.annotations(task, split)
    episodes = _READERS[task](file, split)
    warnings = check_episodes(episodes, graphs) if graphs else []
    for known in boxes:
        with_goals(episodes, known)
    paths = {(episode.scan, episode.path_id, episode.object_id) for episode in episodes}
    found = {"paths": len(paths), "instructions": len(episodes)}
    row = _row(task, f"{task} {split}", found, asdict(PUBLISHED[task][split]))
    if warnings:
        row = replace(row, found=f"{row.found}; {len(warnings)} odd distances: {warnings[0]}")
    return row


def _check_textobs(layout: Layout, graphs: Mapping[str, NavGraph]) -> Row:
    folder = layout.textobs
    seen: set[str] = set()
    for scan in observed_scans(folder):
        observations = read_observations(folder, scan)
        seen.update(f"{scan}_{viewpoint}" for viewpoint in observations.viewpoints)
    needed = _connected(graphs)
    found = {"viewpoints": len(seen), "connected": sum(key in seen for key in needed)}
    row = _row("textobs", "text observations", found, {n: PUBLISHED_GRAPHS[n] for n in found})
    return _covered(row, needed, seen)


def _check_views(path: Path, graphs: Mapping[str, NavGraph], full: bool) -> Row:
    what = f"features {path.name}"
    objects = _object_keys(path)
    if objects is not None:
        step = 1 if full else max(1, len(objects) // _SAMPLE)
        size = read_objects(path, objects[::step]).size
        checked = "all" if step == 1 else f"a sample of {len(objects[::step])}"
        found = f"objects of {len(objects):,} viewpoints x {size}, {checked} read"
        return Row(source="features", what=what, status="ok", found=found)
    with ViewStore.open(path) as store:
        step = 1 if full else max(1, len(store.keys) // _SAMPLE)
        store.check(store.keys[::step])
        checked = "all" if step == 1 else f"a sample of {len(store.keys[::step])}"
        logits = " + 1000 logits" if store.has_logits else ""
        found = f"{len(store.keys):,} viewpoints x {store.n_views} x {store.size}{logits}"
        row = Row(source="features", what=what, status="ok", found=f"{found}, {checked} read")
        return _covered(row, _connected(graphs), store.keys)


def _object_keys(path: Path) -> list[str] | None:
    """Keys of the viewpoints if this is a file of object features (DUET's ``obj.*.hdf5``)."""
    with open_hdf5(path) as file:
        try:
            first = next(iter(file), None)
            return None if first is None or "obj_ids" not in file[first].attrs else list(file)
        except HDF5_ERRORS as error:
            raise unreadable(str(path), error) from error


def _check_vlnce(layout: Layout, split: str) -> Row:
    file = layout.vlnce(split)
    value = read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get("episodes"), list):
        raise InputError(f"{file}: expected an object with a list of episodes")
    found = {"episodes": len(value["episodes"])}
    return _row("vlnce", f"vlnce {split}", found, {"episodes": PUBLISHED_VLNCE[split]})


def _check_uncounted(
    layout: Layout,
    task: str,
    split: str,
    reader: Callable[..., list[Episode]],
    graphs: Mapping[str, NavGraph],
) -> Row:
    episodes = reader(layout.annotations(task, split), split)
    return _walked(task, f"{task} {split}", episodes, graphs)


def _check_rxr(layout: Layout, split: str, role: Role, graphs: Mapping[str, NavGraph]) -> Row:
    guide = layout.rxr(split) if role == "follower" else None
    episodes = read_rxr(layout.rxr(split, role), split, role=role, guide=guide)
    row = _walked("rxr", f"rxr {split} {role}", episodes, graphs)
    return replace(row, found=f"{row.found}; {_languages(episodes)}")


def _check_rxrce(layout: Layout, split: str, role: str) -> Row:
    """Read the episodes, and the trajectories where there are some: one for each episode."""
    file = layout.rxrce(split, role)
    episodes = read_vlnce(file, split)
    found = f"{len(episodes):,} episodes; {_languages(episodes)}"
    if any(episode.waypoints for episode in episodes):
        walks = read_trajectories(layout.rxrce_trajectories(split, role))
        lacking = [e.instr_id for e in episodes if e.instr_id not in walks]
        if lacking:
            raise InputError(
                f"{file}: {len(lacking)} episodes have no trajectory in the _gt file, first "
                f"{lacking[0]}; both must be of one release"
            )
    return Row(source="rxr-ce", what=f"rxr-ce {split} {role}", status="ok", found=found)


def _walked(
    source: str, what: str, episodes: Sequence[Episode], graphs: Mapping[str, NavGraph]
) -> Row:
    """Walk the paths of a split of which no published counts are known here."""
    if graphs:
        check_episodes(episodes, graphs)
        _check_goals(episodes, graphs)
    paths = {(episode.scan, episode.path_id, episode.path) for episode in episodes}
    found = f"{len(paths):,} paths, {len(episodes):,} instructions"
    return Row(source=source, what=what, status="ok", found=found)


def _check_goals(episodes: Sequence[Episode], graphs: Mapping[str, NavGraph]) -> None:
    for episode in episodes:
        order = graphs[episode.scan].order
        strays = [viewpoint for viewpoint in episode.goals if viewpoint not in order]
        if strays:
            raise InputError(
                f"episode {episode.instr_id}: its goal {strays[0][:60]!r} is not in the graph of "
                f"{episode.scan}; annotations and connectivity files must be of one release"
            )


def _languages(episodes: Sequence[Episode]) -> str:
    counts = Counter(str(episode.language) for episode in episodes)
    return ", ".join(f"{count:,} {language}" for language, count in sorted(counts.items()))


def _row(source: str, what: str, found: Mapping[str, int], published: Mapping[str, int]) -> Row:
    status = "ok" if found == published else "differs"
    told, expected = (", ".join(f"{n:,} {k}" for k, n in d.items()) for d in (found, published))
    return Row(source=source, what=what, status=status, found=told, published=expected)


def _connected(graphs: Mapping[str, NavGraph]) -> list[str]:
    """Keys of all viewpoints that have an edge: those an agent can stand at."""
    return [
        f"{scan}_{viewpoint}"
        for scan, graph in graphs.items()
        for viewpoint, degree in zip(graph.viewpoints, np.diff(graph.indptr), strict=True)
        if degree
    ]


def _covered(row: Row, needed: Collection[str], seen: Collection[str]) -> Row:
    """Note on a row which viewpoints of the graphs it leaves out; that makes it "wrong"."""
    have = set(seen)
    lacking = [key for key in needed if key not in have]
    if not lacking:
        return row
    note = f"{row.found}; no entry for {len(lacking):,} of {len(needed):,} viewpoints of the graphs"
    return replace(row, status="wrong", found=f"{note}, first {lacking[0]}")
