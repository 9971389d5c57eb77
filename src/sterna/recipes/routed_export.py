"""Routed policies from their folders, and as exported ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sterna.actdistill.adapters.duet import DuetStack
from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.router import Router, RouterConfig
from sterna.actdistill.stack import Stack
from sterna.actdistill.walking import RoutedAgent
from sterna.edge.card import CARD, README, machine
from sterna.edge.export import TOKENIZER, new_folder, write_manifest
from sterna.edge.parity import SIZES, agreement, random_state, torch_walks
from sterna.edge.routed_files import EVERY, Graphs, Routed, write_routed
from sterna.edge.routed_folder import Feed, export_actor, routes_of
from sterna.edge.runtime import Engine
from sterna.edge.runtime.folder import ENGINES
from sterna.errors import InputError
from sterna.files import read_json, sha256, write_json, write_text
from sterna.metrics import score_predictions
from sterna.models.pretrained import from_pretrained
from sterna.models.vla_folder import from_pretrained as open_vla
from sterna.models.walk import MAX_STEPS
from sterna.recipes.actdistill import DuetAct, NavigatorAct, VlaAct
from sterna.recipes.asking import open_stack, run_export_navigator
from sterna.recipes.rooms import rooms_of
from sterna.recipes.routed import CALIBRATION, POLICY, ROUTER, STUDENT, fill, open_run
from sterna.recipes.runs import protocol_of
from sterna.recipes.world import World
from sterna.train.evaluate import predict


def is_student(folder: Path) -> bool:
    """Say whether a folder is one of `sterna actdistill distill`."""
    return (folder / STUDENT).is_file()


def is_actor(folder: Path) -> bool:
    """Say whether a folder holds a small vision-language-action policy, without a router."""
    file = actor_folder(folder) / "config.json"
    return file.is_file() and read_json(file).get("model") == "VLA"


def actor_folder(folder: Path) -> Path:
    """Return where the weights of a policy are: itself, or the `last` of its run."""
    return folder / "last" if (folder / "last").is_dir() else folder


def open_routed(folder: Path, rho: float | None = None) -> Routed:
    """Open a routed policy with its budgets; `rho` is the usual one (default: 0.5).

    A policy from observations to actions without a router runs whole, at budget 1. `InputError`
    for other folders, and for a student that is not calibrated.
    """
    if is_student(folder):
        return _student(folder, rho)
    if is_actor(folder):
        stack = VlaStack(open_vla(actor_folder(folder)))
        router = Router(stack, RouterConfig(width=1, dropout=0.0))
        return Routed(stack=stack, router=router.eval(), thresholds={1.0: EVERY}, rho=1.0)
    raise InputError(
        f"{folder}: no routed policy; give a folder of `sterna actdistill distill`, or a policy of "
        "`sterna metaworld train`"
    )


def _student(folder: Path, rho: float | None) -> Routed:
    config = open_run(folder)
    known = isinstance(config, DuetAct | NavigatorAct | VlaAct)
    if not known or not (folder / ROUTER).is_file():
        raise InputError(
            f"{folder}: only routed students of a DUET, a navigator or a small "
            "vision-language-action policy are exported; others run in torch"
        )
    if not (folder / CALIBRATION).is_file():
        raise InputError(f"{folder}: not calibrated; run `sterna actdistill calibrate {folder}`")
    stack: Stack
    if isinstance(config, DuetAct):
        stack = DuetStack(from_pretrained(folder / POLICY).float().eval())
    elif isinstance(config, NavigatorAct):
        stack = open_stack(folder / POLICY)
    else:
        stack = VlaStack(open_vla(folder / POLICY))
    router = Router(stack, config.router)
    fill(router, folder / ROUTER)
    found = read_json(folder / CALIBRATION)
    budgets = {row["rho"]: row for row in found["budgets"]}
    wanted = _usual(budgets, rho)
    return Routed(
        stack=stack,
        router=router.eval(),
        thresholds={r: row["threshold"] for r, row in budgets.items()},
        rho=wanted,
        open_=budgets[wanted]["open"],
        costs=found["costs"],
        about={"weights_sha256": sha256(folder / STUDENT), "teacher": str(config.teacher)},
    )


def _usual(budgets: Mapping[float, Any], rho: float | None) -> float:
    if rho is None:
        return 0.5 if 0.5 in budgets else next(iter(budgets))
    return rho if rho in budgets else _missing(budgets, rho)


def _missing(budgets: Mapping[float, Any], rho: float) -> float:
    known = ", ".join(f"{found:g}" for found in budgets)
    raise InputError(f"rho {rho:g}: calibrated for {known}; calibrate for it too")


def run_export_routed(
    folder: Path,
    to: Path,
    root: Path | None,
    *,
    int8: int,
    rho: float | None = None,
    keep: Sequence[int] | None = None,
    static: bool = True,
    split: str = "val_unseen",
    about: int = 100,
    feeds: Sequence[Feed] | None = None,
) -> dict[str, Any]:
    """Export a routed policy; returns its card. See `exporting.run_export`.

    `keep` are the units of a static model (default: those that run most often within the budget,
    where that is known). DUETs are walked where there is data (`root`).
    """
    routed = open_routed(folder, rho)
    if keep is None and static and routed.open_:
        keep = routed.static()
    if isinstance(routed.stack, NavigatorStack):
        return run_export_navigator(folder, to, int8=int8, routed=routed, keep=keep)
    if not isinstance(routed.stack, DuetStack):
        return export_actor(routed, to, int8=int8, keep=keep, feeds=feeds)
    config = open_run(folder)
    assert isinstance(config, DuetAct)
    if root is None:
        raise InputError("export: a routed DUET needs its data (--data), for words and views")
    world = World(root, config.data)
    return export_duet(routed, folder, to, world, int8=int8, keep=keep, split=split, about=about)


def export_duet(
    routed: Routed,
    source: Path,
    to: Path,
    world: World,
    *,
    int8: int,
    keep: Sequence[int] | None,
    split: str,
    about: int,
) -> dict[str, Any]:
    """Export a routed DUET of the run `source` into `to`, and walk about `about` episodes."""
    stack = routed.stack
    assert isinstance(stack, DuetStack)
    protocol = protocol_of(world.config)
    steps = protocol.max_steps or MAX_STEPS
    with new_folder(to) as folder:
        graphs = write_routed(routed, folder, int8=int8, keep=keep)
        shutil.copyfile(world.encoder / "tokenizer.json", folder / TOKENIZER)
        settings: dict[str, Any] = {
            "views": (world.views.headings, world.views.elevations),
            "max_words": world.config.max_words,
            "max_steps": steps,
            "about": {
                **routed.about,
                "parameters": sum(p.numel() for p in stack.parameters()),
                "protocol": protocol.to_dict(),
                "protocol_hash": protocol.hash,
                "run": read_json(source / "recipe.json"),
            },
            "routes": routes_of(routed, keep),
        }
        write_manifest(folder, stack.model, graphs, **settings)
        card = _card(routed, folder, graphs, world, split, about, steps, source.name)
        write_json(folder / CARD, card)
        write_text(folder / README, readme(card))
        write_manifest(folder, stack.model, graphs, **settings)
    return card


def _card(
    routed: Routed,
    folder: Path,
    graphs: Graphs,
    world: World,
    split: str,
    about: int,
    steps: int,
    name: str,
) -> dict[str, Any]:
    stack = routed.stack
    assert isinstance(stack, DuetStack)
    episodes = world.episodes(split, about=about)
    panoramas = world.panoramas(episodes)
    connectivity, protocol = world.layout.connectivity, protocol_of(world.config)
    agent = RoutedAgent(stack, panoramas, routed.router.decide(routed.threshold))
    walks = predict(agent, panoramas, episodes, max_steps=steps)
    scores = score_predictions(walks, episodes, connectivity, protocol).scores
    told = list(
        torch_walks(
            stack.model, panoramas, episodes, batch_size=16, steps=steps,
            agent=RoutedAgent(stack, panoramas, routed.router.decide(routed.threshold)),
        )
    )  # fmt: skip
    rooms = rooms_of(world, panoramas)
    rows = {}
    for engine in [name for name in graphs if name in ENGINES]:
        opened = Engine.open(folder, engine, rho=routed.rho)
        agreed = agreement(told, rooms, opened)
        rows[engine] = {
            "agreement": agreed.share,
            "largest_difference": agreed.largest_difference,
            "gates": [_same_gates(routed, opened, size) for size in SIZES],
        }
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.glob("*.onnx"))
    }
    return {
        "name": name,
        "kind": "DUET, routed",
        "parameters": sum(p.numel() for p in stack.parameters()),
        "router_parameters": sum(p.numel() for p in routed.router.parameters()),
        "sizes": asdict(stack.model.config),
        "units": [unit.name for unit in stack.units],
        "rho": routed.rho,
        "units_run": float(np.mean(agent.open_ / np.maximum(agent.asked, 1))),
        "engines": list(graphs),
        "files": files,
        "split": split,
        "episodes": len(episodes),
        "decisions": sum(len(decisions) for _, decisions in told),
        "scores_of_torch": {name: float(score.mean or 0.0) for name, score in scores.items()},
        "parity": rows,
        "made_with": machine(),
    }


def _same_gates(routed: Routed, engine: Engine, size: tuple[int, int, int]) -> dict[str, Any]:
    """Compare gates and logits with torch on a random state."""
    from sterna.edge.bench.torch_engine import TorchEngine

    stack = routed.stack
    assert isinstance(stack, DuetStack)
    torch_engine = TorchEngine(stack.model, routed=(routed.router, routed.threshold))
    state = random_state(stack.model, *size)
    found = []
    for one in (torch_engine, engine):
        words = one.read(state.ids.tolist())
        panorama, _ = one.look(state.tokens)
        found.append(one.judge(state.feed | words | {"panorama": panorama}))
    (logits, _, gates), (theirs, _, ran) = found
    assert gates is not None and ran is not None
    return {
        "words": size[0],
        "views": size[1],
        "nodes": size[2],
        "same_gates": bool(np.array_equal(gates, ran)),
        "largest_difference": float(np.abs(logits - theirs).max()),
    }


def readme(card: Mapping[str, Any]) -> str:
    """Return the card of a routed DUET as Markdown."""
    lines = [
        f"# {card['name']}, exported with its router",
        "",
        f"A DUET of {card['parameters']:,} parameters and a router of "
        f"{card['router_parameters']:,}; {len(card['units'])} units, each in an `If`; at rho "
        f"{card['rho']:g} {100 * card['units_run']:.1f}% of them ran.",
        "",
        f"{card['episodes']} episodes of {card['split']}; decisions compared at the "
        f"{card['decisions']} states of torch's own routed walks:",
        "",
        "| engine | same decisions | largest difference of a chance | same gates, random states |",
        "|---|--:|--:|--:|",
    ]
    for engine, row in card["parity"].items():
        same = sum(one["same_gates"] for one in row["gates"])
        lines.append(
            f"| {engine} | {100 * row['agreement']:.2f}% | {row['largest_difference']:.1e} "
            f"| {same}/{len(row['gates'])} |"
        )
    made = ", ".join(f"{name} {version}" for name, version in card["made_with"].items())
    return "\n".join([*lines, "", f"Made with {made}."]) + "\n"


__all__ = ["is_actor", "is_student", "open_routed", "readme", "run_export_routed"]
