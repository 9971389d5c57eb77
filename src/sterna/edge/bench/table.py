"""What the arms said, as rows of one table: medians, ratios, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.bench.process import Record

Row = dict[str, Any]
NEAR = 0.05
"""Chunks of actions that differ nowhere by more than this (a fortieth of their range) are alike."""


def rows_of(records: Sequence[Record], models: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return one row an arm, in the order of `records`.

    `models` holds by name what does not depend on the engine: ``parameters``, ``flops_episode``,
    ``flops_step``, and ``bytes`` by engine. Ratios are medians divided by medians of the same run,
    at the same number of threads: ``faster`` against the first arm, ``faster_than_own`` against the
    first arm of the same model. Decisions are compared with the latter too.
    """
    rows = []
    for record in records:
        same = [other for other in records if other.arm.threads == record.arm.threads]
        own = next(other for other in same if other.arm.model == record.arm.model)
        model = models[record.arm.model]
        times = {
            "episode": episodes_ms(record).ravel(),
            "step": 1e3 * np.concatenate([one["steps"] for one in _walks(record)]),
            "text": 1e3 * np.array([one["text"] for one in _walks(record)]),
            "cpu": 1e3 * np.array([one["cpu"] for one in _walks(record)]),
        }
        row: Row = {
            "model": record.arm.model,
            "engine": record.arm.engine,
            "threads": record.arm.threads,
            "parameters": model["parameters"],
            **_flops(record, model),
            "file_MB": model["bytes"][record.arm.engine] / 1e6,
            "episode_ms": _summary(times["episode"]),
            "step_ms": _summary(times["step"]),
            "text_ms": _summary(times["text"]),
            "episode_cpu_ms": _summary(times["cpu"]),
            "peak_MB": record.turns[-1]["peak_MB"],
            "resident_MB": record.turns[-1]["resident_MB"],
            "import_s": record.ready["import_s"],
            "open_s": record.ready["open_s"],
            "first_episode_s": record.ready["first_s"],
            "torch_loaded": record.ready["torch"],
        }
        against = {"faster": same[0], "faster_than_own": own}
        rows.append(row | {k: _ratio(v, record) for k, v in against.items()} | _agrees(own, record))
    return rows


def _flops(record: Record, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return operations of an episode and of a step: of the units that the arm ran, if it tells."""
    if "flops" not in record.ready:
        return {"flops_episode": model["flops_episode"], "flops_step": model["flops_step"]}
    each = record.ready["flops"]
    return {
        "flops_episode": sum(each),
        "flops_step": sum(each) / len(each),
        "units_run": sum(record.ready["units_run"]) / len(each),
    }


def episodes_ms(record: Record) -> NDArray[np.float64]:
    """Return the time of every measured episode in milliseconds, [rounds, episodes]."""
    return 1e3 * np.array([[one["episode"] for one in turn["walks"]] for turn in record.turns])


def _walks(record: Record) -> list[Mapping[str, Any]]:
    return [one for turn in record.turns for one in turn["walks"]]


def _summary(values: NDArray[np.float64]) -> dict[str, float]:
    low, middle, high = np.percentile(values, [0, 50, 95]).tolist()
    return {"median": middle, "p95": high, "least": low}


def _ratio(reference: Record, record: Record) -> dict[str, float]:
    """Return how many times as fast an arm is, and the range of that over the rounds."""
    theirs, ours = episodes_ms(reference), episodes_ms(record)
    each = np.median(theirs, 1) / np.median(ours, 1)
    return {
        "median": float(np.median(theirs) / np.median(ours)),
        "least": float(each.min()),
        "most": float(each.max()),
    }


def _agrees(own: Record, record: Record) -> dict[str, Any]:
    """Compare the decisions of the warm-up walk with those of the model's first arm."""
    pairs = list(zip(own.ready["chances"], record.ready["chances"], strict=True))
    apart = [float(np.abs(np.subtract(a, b)).max()) for a, b in pairs]
    acts = "flops" in record.ready
    same = [
        worst <= NEAR if acts else int(np.argmax(a)) == int(np.argmax(b))
        for (a, b), worst in zip(pairs, apart, strict=True)
    ]
    return {
        "decisions": len(pairs),
        "same_decisions": sum(same),
        "largest_difference": max(apart),
    }


HEADS = (
    *("model", "engine", "threads", "episode ms", "p95", "step ms", "p95", "times as fast"),
    *("as own first", "peak MB", "file MB", "GFLOP episode", "GFLOP step", "M parameters"),
    "same decisions",
)


def markdown(result: Mapping[str, Any]) -> str:
    """Return a result as Markdown: what was walked, the table, what its columns mean."""
    lines = [HEADS, ["---"] * 2 + ["--:"] * (len(HEADS) - 2), *map(_cells, result["rows"])]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([*_head(result), "", *table, "", *_foot(result)]) + "\n"


def _cells(row: Row) -> list[str]:
    episode, step = row["episode_ms"], row["step_ms"]
    return [
        row["model"],
        row["engine"],
        str(row["threads"]),
        *(f"{ms:.1f}" for ms in (episode["median"], episode["p95"])),
        *(f"{ms:.2f}" for ms in (step["median"], step["p95"])),
        *(f"{row[name]['median']:.2f}" for name in ("faster", "faster_than_own")),
        f"{row['peak_MB']:.0f}",
        f"{row['file_MB']:.1f}",
        f"{row['flops_episode'] / 1e9:.3g}",
        f"{row['flops_step'] / 1e9:.3g}",
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['same_decisions']}/{row['decisions']}",
    ]


def _head(result: Mapping[str, Any]) -> list[str]:
    shape, plan, machine = result["episode"], result["plan"], result["machine"]
    nodes = result["map_nodes"]
    sight = (
        f"with {shape['views']} views, {shape['words']} word pieces, a map that grows from "
        f"{nodes[0]} to {nodes[-1]} nodes"
        if nodes
        else f"on {'made-up' if shape['frames'] is None else 'recorded'} frames"
    )
    return [
        "# Latency of one agent",
        "",
        f"An episode of {shape['steps']} steps {sight}; "
        f"batch 1, {plan['rounds']} rounds of {plan['episodes']} episodes an arm, one arm at work "
        "at a time, turn by turn.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores; load of the machine {machine['load_before']} "
        f"before, {machine['load_after']} after"
        + ("." if not machine["busy"] else ": **busy, so times are too long; measure again.**"),
    ]


def _foot(result: Mapping[str, Any]) -> list[str]:
    packages = ", ".join(f"{name} {number}" for name, number in result["packages"].items())
    return [
        f"* Times as fast: medians of episodes of `{result['reference']}` divided by those of the "
        "arm, same run, same threads. As own first: the same against the first arm of the model.",
        "* Episode: reading the instruction, then every step; step: from what is seen to chances, "
        "panorama and map included. Features of views are given, not computed.",
        "* Peak: the most memory that the arm's own process ever held, opening and compiling "
        "included. File: weights or graphs, without tokenizer.",
        "* GFLOP: 2 for a multiplication with its addition; matrix products and attention, counted "
        "by torch while the graphs ran, the same for all engines of a model. A step without the "
        "text, mean.",
        "* Of routed policies the units that ran are counted, others not. Same decisions: as the "
        f"first arm of the model (chunks of actions: nowhere further apart than {NEAR}). Random "
        "weights have no lead to lose; `sterna export` writes a card on real episodes.",
        "",
        f"Made with sterna {result['version']}, {packages}, seed {result['episode']['seed']}.",
    ]
