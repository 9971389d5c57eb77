"""The table of ActDistill on Meta-World: the routed student against everything as cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.gates import (
    Costs,
    cosine_importance,
    cosine_units,
    first_units,
    greedy_units,
    held_out_loss,
    measure_costs,
    random_units,
)
from sterna.actdistill.stack import Decide
from sterna.actdistill.vla_policy import RoutedVla, load_routed
from sterna.files import read_json, sha256, write_json
from sterna.metrics.manipulation import METAWORLD_10, ManipulationProtocol
from sterna.models.pretrained import WEIGHTS
from sterna.models.vla import VlaBatch
from sterna.models.vla_folder import from_pretrained
from sterna.recipes.manipulation import (
    Timing,
    count_flops,
    evaluate_policy,
    observations,
    paired,
    summary,
    time_decisions,
)
from sterna.recipes.metaworld_routes import (
    RoutesRun,
    distil_policy,
    fixed_run,
    held_out,
    opened,
    probe_teacher,
)

_ROUNDS = 5
"""Turns that the arms take in being timed."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One policy of the table: a stack, its gates, where it came from."""

    name: str
    stack: VlaStack
    weights: str
    """Checksum of what was opened."""
    decide: Decide | None = None
    keep: tuple[int, ...] | None = None
    """Units of the teacher that a static arm keeps."""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """Which arms there are, and what they are scored on."""

    routes: RoutesRun
    """Teacher, demonstrations, both stages; `routes.loop.seed` is the seed of the student."""
    shallow: Path | None = None
    """A policy of as many layers as the budget allows, trained from scratch (`RUN/last`)."""
    protocol: ManipulationProtocol = METAWORLD_10
    execute: int = 4
    """Actions of a chunk that are executed."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of students and of the random choice of units."""
    tuned: tuple[str, ...] = ()
    """Static choices (first, cosine, greedy) that are distilled like the student, seed by seed."""


def static_choices(config: RoutesRun) -> dict[str, tuple[int, ...]]:
    """Return the units that each training-free choice keeps within the budget.

    All are chosen on held-out demonstrations; greedy alone sees the loss there.
    """
    teacher, samples = opened(config)
    batches = held_out(config, samples)
    costs, rho = measure_costs(teacher, batches[:1]), config.route.rho
    cosine = cosine_units(cosine_importance(teacher, batches), costs, rho)
    greedy = greedy_units(held_out_loss(teacher, batches), costs, [rho])[rho]
    return {"first": first_units(teacher, costs, rho), "cosine": cosine, "greedy": greedy}


def arms_of(config: StudyRun, out: Path) -> list[Arm]:
    """Train what has to be trained; return every arm."""
    routes = config.routes
    teacher, _ = opened(routes)
    mark = sha256(routes.teacher / WEIGHTS)
    arms = [Arm(name="teacher", stack=teacher, weights=mark)]
    choices = static_choices(routes)
    costs = Costs(each=(1.0,) * len(teacher.units), fixed=tuple(u.fixed for u in teacher.units))
    for seed in config.seeds:
        choices[f"random-{seed}"] = random_units(costs, routes.route.rho, seed)
    for name, keep in choices.items():
        arms.append(Arm(name=name, stack=teacher.pruned(keep), weights=mark, keep=keep))
    if config.shallow is not None:
        stack = VlaStack(from_pretrained(config.shallow))
        mark = sha256(config.shallow / WEIGHTS)
        arms.append(Arm(name="shallow", stack=stack, weights=mark))
    probed = probe_teacher(routes, out / "probe")
    for seed in config.seeds:
        run = replace(routes, loop=replace(routes.loop, seed=seed))
        folder = distil_policy(run, probed, out / f"routed-{seed}") / "last"
        stack, router, threshold = load_routed(folder)
        mark = sha256(folder / WEIGHTS)
        decide = router.decide(threshold)
        arms.append(Arm(name=f"routed-{seed}", stack=stack, weights=mark, decide=decide))
        for name in config.tuned:
            keep = choices[name]
            folder = distil_policy(fixed_run(run, keep), probed, out / f"{name}-tuned-{seed}")
            stack = VlaStack(from_pretrained(folder / "last"))
            mark = sha256(folder / "last" / WEIGHTS)
            arms.append(Arm(name=f"{name}-tuned-{seed}", stack=stack, weights=mark, keep=keep))
    return arms


def run_study(config: StudyRun, out: Path) -> dict[str, Any]:
    """Train, score and time every arm in `out`; return what ``study.json`` holds."""
    arms = arms_of(config, out)
    teacher = arms[0].stack
    batches = observations(config.protocol, teacher.model.config)
    per_layer = teacher.cost(0, teacher.prepare(batches[0]))
    full = per_layer * len(teacher.units)
    rows, table = {}, {}
    for arm in arms:
        policy = RoutedVla(arm.stack, arm.decide)
        rows[arm.name] = evaluate_policy(
            policy,
            arm.stack.model.config,
            out / "scores" / arm.name,
            settings={"arm": arm.name, "weights": arm.weights, "keep": arm.keep},
            protocol=config.protocol,
            execute=config.execute,
        )
        table[arm.name] = {
            **summary(rows[arm.name]),
            "keep": arm.keep,
            **_costs(arm, batches, full),
        }
        if arm.decide is not None:
            table[arm.name] |= _gates(config, arm, policy, out / "scores" / arm.name)
    times = _times(arms, batches)
    for name, values in table.items():
        values["timing"] = vars(times[name])
        values["times_faster"] = times["teacher"].median_ms / times[name].median_ms
        values["minus_teacher"] = paired(rows[name], rows["teacher"])
    result = {
        "protocol": config.protocol.to_dict(),
        "protocol_hash": config.protocol.hash,
        "execute": config.execute,
        "rho": config.routes.route.rho,
        "routed_minus": _routed_minus(rows),
        "arms": table,
    }
    write_json(out / "study.json", result)
    return result


def _routed_minus(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the paired differences of every student and every other arm."""
    routed = [name for name in rows if name.startswith("routed")]
    return {
        one: {other: paired(rows[one], rows[other]) for other in rows if other not in routed}
        for one in routed
    }


def _costs(arm: Arm, batches: Sequence[VlaBatch], full: float) -> dict[str, Any]:
    """Return the FLOPs of a decision, and the layers' share of the teacher's for a static arm."""
    values: dict[str, Any] = {"flops": count_flops(RoutedVla(arm.stack, arm.decide), batches)}
    if arm.decide is None:
        layers = arm.stack.cost(0, arm.stack.prepare(batches[0])) * len(arm.stack.units)
        values["backbone_share"] = layers / full
    return values


def _gates(config: StudyRun, arm: Arm, policy: RoutedVla, folder: Path) -> dict[str, Any]:
    """Return how often each unit ran, in the scored episodes and over held-out frames.

    Counts of the episodes are kept beside them, and grow when an evaluation goes on.
    """
    kept = folder / "gates.json"
    if policy.rows:
        before = read_json(kept) if kept.is_file() else {"rows": 0, "ran": [0.0] * len(policy.ran)}
        ran = [a + b for a, b in zip(before["ran"], policy.ran.tolist(), strict=True)]
        write_json(kept, {"rows": before["rows"] + policy.rows, "ran": ran})
    found = read_json(kept)
    seen = [count / found["rows"] for count in found["ran"]]
    _, samples = opened(config.routes)
    there = RoutedVla(arm.stack, arm.decide)
    for batch in held_out(config.routes, samples):
        there(batch)
    return {
        "backbone_share": sum(seen) / len(seen),
        "backbone_share_held_out": sum(there.frequencies) / len(seen),
        "frequencies": seen,
        "frequencies_held_out": there.frequencies,
    }


def _times(arms: Sequence[Arm], batches: Sequence[VlaBatch]) -> dict[str, Timing]:
    """Time every arm at batch 1, in turns; of the turns the one with the middle median counts."""
    turns: dict[str, list[Timing]] = {arm.name: [] for arm in arms}
    for _ in range(_ROUNDS):
        for arm in arms:
            policy = RoutedVla(arm.stack, arm.decide)
            turns[arm.name].append(time_decisions(policy, batches, repeats=50))
    return {
        name: sorted(found, key=lambda timing: timing.median_ms)[_ROUNDS // 2]
        for name, found in turns.items()
    }
