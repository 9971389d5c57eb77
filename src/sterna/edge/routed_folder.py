"""A routed policy as an exported folder: graphs, manifest, and its card beside torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna import __version__
from sterna.actdistill.flops import counted
from sterna.edge.card import CARD, README, foot, machine
from sterna.edge.export import new_folder
from sterna.edge.routed import RoutedGraph
from sterna.edge.routed_files import Graphs, Routed, write_routed
from sterna.edge.runtime.actor import Actor
from sterna.edge.runtime.folder import ACTOR, FORMAT, MANIFEST, digest
from sterna.files import sha256, write_json, write_text

Feed = dict[str, NDArray[Any]]
STATES = 32
"""Decisions that a card compares, where none are given."""


def routes_of(routed: Routed, keep: Sequence[int] | None) -> dict[str, Any]:
    """Return what a manifest says of routing: units, phases, budgets, the static choice."""
    units = routed.stack.units
    return {
        "units": [unit.name for unit in units],
        "phases": [unit.phase for unit in units],
        "fixed": [unit.fixed for unit in units],
        "rho": routed.rho,
        "budgets": [{"rho": r, "threshold": t} for r, t in routed.thresholds.items()],
        "static": None if keep is None else sorted(set(keep)),
    }


def export_actor(
    routed: Routed,
    to: Path,
    *,
    int8: int = 0,
    keep: Sequence[int] | None = None,
    feeds: Sequence[Feed] | None = None,
) -> dict[str, Any]:
    """Export a policy from observations to actions into `to`, atomically; return its card.

    `keep` are the units of static graphs, written beside the routed ones. `feeds` are decisions
    (inputs by name, one row) to compare on; without them random ones are drawn.
    """
    graph = RoutedGraph(routed.stack, routed.router).eval()
    with new_folder(to) as folder:
        graphs = write_routed(routed, folder, int8=int8, keep=keep)
        content = _manifest(routed, graph, graphs, keep)
        _write(folder, content)
        card = _card(routed, graph, folder, graphs, feeds or drawn_feeds(graph, STATES), keep)
        write_json(folder / CARD, card)
        write_text(folder / README, readme(card))
        _write(folder, content)
    return card


def _manifest(
    routed: Routed, graph: RoutedGraph, graphs: Graphs, keep: Sequence[int] | None
) -> dict[str, Any]:
    base, each = flops_of(graph)
    free = graph.form.free
    return {
        "format": FORMAT,
        "model": ACTOR,
        "version": __version__,
        "stack": type(routed.stack).__name__,
        "sizes": dict(graph.form.sizes),
        "graphs": graphs,
        "inputs": {
            name: {
                "shape": [free.get(name, {}).get(n, side) for n, side in enumerate(value.shape)],
                "dtype": str(value.numpy().dtype),
            }
            for name, value in graph.form.inputs.items()
        },
        "routes": {**routes_of(routed, keep), "base_flops": base, "unit_flops": each},
        "about": json.loads(json.dumps(dict(routed.about), allow_nan=False)),
    }


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    names = sorted(file.name for file in folder.iterdir() if file.name != MANIFEST)
    whole = {**content, "files": {name: sha256(folder / name) for name in names}}
    write_json(folder / MANIFEST, whole | {"digest": digest(whole)})


def flops_of(graph: RoutedGraph) -> tuple[float, list[float]]:
    """Return the FLOPs of a decision but for its units, and of each unit (2 a multiply-add).

    Units as their adapter counts them, at the sizes of the form's examples; the whole as counted
    while every unit ran, router included.
    """
    stack = graph.stack
    given = dict(graph.form.inputs)
    with torch.no_grad():
        state = stack.prepare(stack.question(graph.form.batch(given)))
        each = [stack.cost(unit, state) for unit in range(len(stack.units))]
    every = torch.tensor(-torch.inf)
    total = counted(graph, lambda: graph(every, *given.values()))
    return total - sum(each), each


def drawn_feeds(graph: RoutedGraph, count: int, seed: int = 0) -> list[Feed]:
    """Return random decisions of the form's sizes: noise for pictures and numbers, words anew."""
    rng = np.random.default_rng([seed, 5])
    feeds = []
    for _ in range(count):
        feed: Feed = {}
        for name, value in graph.form.inputs.items():
            array, shape = value.numpy(), value.shape
            if array.dtype == np.uint8:
                feed[name] = rng.integers(0, 256, shape).astype(np.uint8)
            elif array.dtype.kind == "i":
                feed[name] = rng.integers(1, int(array.max()) + 2, shape).astype(array.dtype)
            else:
                feed[name] = rng.uniform(-1, 1, shape).astype(np.float32)
        feeds.append(feed)
    return feeds


def in_torch(graph: RoutedGraph, threshold: float, feed: Feed) -> tuple[Tensor, Tensor]:
    """Return actions and gates of one decision in torch, skipped units not run."""
    with torch.no_grad():
        inputs = [torch.from_numpy(feed[name]) for name in graph.form.inputs]
        actions, gates = graph(torch.tensor(threshold, dtype=torch.float32), *inputs)[:2]
    return actions, gates


def _card(
    routed: Routed,
    graph: RoutedGraph,
    folder: Path,
    graphs: Graphs,
    feeds: Sequence[Feed],
    keep: Sequence[int] | None,
) -> dict[str, Any]:
    parts = {file for names in graphs.values() for file in names.values()}
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in sorted(parts)
    }
    policy = sum(p.numel() for p in routed.stack.parameters())
    rows = {}
    for engine in graphs:
        static = engine.startswith("onnx-static")
        budgets = [routed.rho] if static else list(routed.thresholds)
        rows[engine] = [_compare(routed, graph, folder, engine, r, feeds, keep) for r in budgets]
    return {
        "name": folder.name.split(".")[1] if folder.name.startswith(".") else folder.name,
        "kind": type(routed.stack).__name__,
        "parameters": policy,
        "router_parameters": sum(p.numel() for p in routed.router.parameters()),
        "units": [unit.name for unit in routed.stack.units],
        "engines": list(graphs),
        "files": files,
        "decisions": len(feeds),
        "parity": rows,
        "made_with": machine(),
    }


def _compare(
    routed: Routed,
    graph: RoutedGraph,
    folder: Path,
    engine: str,
    rho: float,
    feeds: Sequence[Feed],
    keep: Sequence[int] | None,
) -> dict[str, Any]:
    """Compare an engine with torch at one budget: gates, and actions where the gates are equal."""
    actor = Actor.open(folder, engine, rho=rho)
    static = engine.startswith("onnx-static")
    whole = routed.stack.pruned(keep) if static and keep is not None else None
    same, worst, spread, open_ = 0, 0.0, 0.0, 0
    for feed in feeds:
        if whole is None:
            wanted, gates = (x.numpy() for x in in_torch(graph, routed.thresholds[rho], feed))
        else:
            alone = RoutedGraph(whole, None)
            wanted = in_torch(alone, 0.0, feed)[0].numpy()
        found, ran = actor.run(feed)
        alike = whole is not None or bool((ran == gates).all())
        same, open_ = same + alike, open_ + int(ran.sum())
        spread = max(spread, float(np.abs(wanted).max()))
        if alike:
            worst = max(worst, float(np.abs(found - wanted).max()))
    return {
        "rho": rho,
        "same_gates": same,
        "largest_difference": worst,
        "largest_action": spread,
        "units_run": open_ / len(feeds),
    }


def readme(card: Mapping[str, Any]) -> str:
    """Return a card as Markdown."""
    lines = [
        f"# {card['name']}, exported with its router",
        "",
        f"{card['kind']} of {card['parameters']:,} parameters and a router of "
        f"{card['router_parameters']:,}; {len(card['units'])} units, each in an `If`. Graph heads "
        "and what else training needs are not in it.",
        "",
        "```python",
        "from sterna.edge.runtime.actor import Actor",
        "",
        f'actor = Actor.open("this/folder", "{card["engines"][0]}")',
        "```",
        "",
        f"Compared with torch on {card['decisions']} decisions:",
        "",
        "| engine | rho | same gates | units run | largest difference | largest action |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for engine, rows in card["parity"].items():
        lines += [
            f"| {engine} | {row['rho']:g} | {row['same_gates']}/{card['decisions']} "
            f"| {row['units_run']:.2f} | {row['largest_difference']:.1e} "
            f"| {row['largest_action']:.2f} |"
            for row in rows
        ]
    return "\n".join([*lines, *foot(card)]) + "\n"
