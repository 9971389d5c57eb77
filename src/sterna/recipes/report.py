"""Collect what the report page shows: scores, curves, and episodes walked under observation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.metrics import score_predictions
from sterna.models.tokens import Tokenizer
from sterna.models.walk import walk
from sterna.models.watch import Glance, WatchedAgent
from sterna.recipes.config import DataConfig
from sterna.recipes.policies import open_policy
from sterna.recipes.runs import protocol_of
from sterna.recipes.world import World
from sterna.show.report import Curve, Decision, Floor, Plan, Shown, Walked
from sterna.train.evaluate import predictions_of
from sterna.world.geometry import VIEW_HEADINGS, VIEWS
from sterna.world.graph import NavGraph, load_graph

COLUMNS = ("parameters", "SR", "SPL", "OSR", "NE (m)", "TL (m)")
COLOURS = ("#d55e00", "#7b2d8b", "#0072b2", "#009e73", "#8a6d00", "#5b6570")
LEVEL = 12  # views of houses without those that look up and down
STOREY = 2.8  # metres between floors where nothing says how many there are


class Pictures(Protocol):
    """What scans look like, where that is known."""

    def floors(self, scan: str) -> tuple[Floor, ...]:
        """Return the storeys from above, the lowest first; empty where nothing is known."""

    def storey(self, scan: str, graph: NavGraph) -> Sequence[int]:
        """Return the storey of each node of the scan's graph."""

    def strip(self, scan: str, graph: NavGraph, node: int) -> str | None:
        """Return what is seen all around a node as a data URI, north in the middle."""


class NoPictures:
    """Graphs alone."""

    def floors(self, scan: str) -> tuple[Floor, ...]:
        """Return none."""
        return ()

    def storey(self, scan: str, graph: NavGraph) -> Sequence[int]:
        """Return storeys by height above the lowest viewpoint."""
        z = graph.positions[:, 2]
        height: Sequence[int] = np.floor((z - z.min()) / STOREY + 0.25).astype(int).tolist()
        return height

    def strip(self, scan: str, graph: NavGraph, node: int) -> str | None:
        """Return none."""
        return None


@dataclass(frozen=True, kw_only=True)
class Walker:
    """A policy whose walks are shown."""

    name: str
    colour: str
    folder: Path


def curve(name: str, colour: str, folder: Path, score: str = "SR") -> Curve:
    """Read a run's curve on its selection split from ``log.jsonl``; time is interpolated.

    The log counts iterations; `run.json` knows the seconds of the whole run.
    """
    with (folder / "log.jsonl").open(encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    chosen = [e for e in entries if e["kind"] == "select" and score in e]
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    pace = run["seconds"] / run["config"]["loop"]["iterations"]
    points = tuple((pace * e["iteration"], 100 * e[score]) for e in chosen)
    return Curve(name=name, colour=colour, points=points)


def shown_episodes(
    root: Path,
    config: DataConfig,
    split: str,
    names: Sequence[str],
    walkers: Sequence[Walker],
    pictures: Pictures,
) -> tuple[list[Shown], dict[str, Plan], dict[str, str]]:
    """Let policies walk episodes; return them with the plans and strips that the page needs."""
    world = World(root, config)
    wanted = {e.instr_id: e for e in world.episodes(split)}
    episodes = [wanted[name] for name in names]
    panoramas = world.panoramas(episodes)
    graphs = {e.scan: load_graph(world.layout.connectivity, e.scan) for e in episodes}
    walks = [_walks(walker, world, panoramas, episodes, graphs) for walker in walkers]
    tokenizer = Tokenizer(world.encoder / "tokenizer.json").vocabulary()
    shown = [
        _shown(episode, split, graphs[episode.scan], tokenizer, each)
        for episode, *each in zip(episodes, *walks, strict=True)
    ]
    plans = {scan: make_plan(scan, graph, pictures) for scan, graph in graphs.items()}
    nodes = sorted({(one.scan, d.node) for one in shown for w in one.walks for d in w.decisions})
    strips = {f"{scan}/{node}": pictures.strip(scan, graphs[scan], node) for scan, node in nodes}
    return shown, plans, {key: strip for key, strip in strips.items() if strip is not None}


def make_plan(scan: str, graph: NavGraph, pictures: Pictures) -> Plan:
    """Return a scan's graph for the page."""
    storeys = pictures.storey(scan, graph)
    flat = graph.positions[:, :2].tolist()
    start = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    pairs = np.sort(np.stack([start, graph.indices], 1), axis=1)
    return Plan(
        nodes=tuple((x, y, int(s)) for (x, y), s in zip(flat, storeys, strict=True)),
        edges=tuple((a, b) for a, b in np.unique(pairs, axis=0).tolist()),
        floors=pictures.floors(scan),
    )


def _walks(
    walker: Walker,
    world: World,
    panoramas: Panoramas,
    episodes: Sequence[Episode],
    graphs: Mapping[str, NavGraph],
) -> list[Walked]:
    policy, _ = open_policy(walker.folder)
    agent, env = WatchedAgent(policy, panoramas), GraphEnv(panoramas)
    with torch.inference_mode():
        done = walk(agent, env, list(episodes))
    predictions = predictions_of(panoramas.atlas, episodes, done)
    rule = protocol_of(world.config)
    result = score_predictions(predictions, episodes, world.layout.connectivity, rule)
    table = result.per_episode or {}
    place = {name: i for i, name in enumerate(table["instr_id"])}
    names = panoramas.atlas.viewpoints
    out = []
    for episode, hops, glances in zip(episodes, done.hops, agent.glances, strict=True):
        graph, row = graphs[episode.scan], place[episode.instr_id]
        out.append(
            Walked(
                name=walker.name,
                colour=walker.colour,
                decisions=tuple(_decision(glance, names, graph) for glance in glances),
                path=tuple(graph.index(names[node]) for hop in hops for node in hop),
                reached=tuple(accumulate(len(hop) for hop in hops[: len(glances)])),
                success=bool(table["SR"][row]),
                error=float(table["NE"][row]),
            )
        )
    return out


def _decision(glance: Glance, names: Sequence[str], graph: NavGraph) -> Decision:
    here = graph.index(names[glance.node])
    near = graph.edges(here)
    headings = dict(zip(graph.neighbours(here).tolist(), graph.heading[near].tolist(), strict=True))
    nodes = [graph.index(names[node]) for node in glance.options.tolist()]
    chances = glance.probabilities.tolist()
    return Decision(
        node=here,
        heading=float(VIEW_HEADINGS[glance.pose]),
        options=tuple((n, p, headings.get(n)) for n, p in zip(nodes, chances, strict=True)),
        stop=glance.stop,
        choice=-1 if glance.choice < 0 else graph.index(names[glance.choice]),
        views=tuple(glance.views.tolist()) if len(glance.views) in (VIEWS, LEVEL) else (),
        words=tuple(glance.words.tolist()),
    )


def _shown(
    episode: Episode,
    split: str,
    graph: NavGraph,
    vocabulary: Sequence[str],
    walks: Sequence[Walked],
) -> Shown:
    goals = episode.goals or episode.path[-1:]
    return Shown(
        name=episode.instr_id,
        scan=episode.scan,
        split=split,
        pieces=tuple(vocabulary[i] for i in episode.token_ids or ()),
        reference=tuple(map(graph.index, episode.path)),
        goals=tuple(map(graph.index, goals)),
        walks=tuple(walks),
    )
