"""A vision-language navigator as an exported folder: graphs, manifest, its card beside torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sterna import __version__
from sterna.actdistill.adapters.decoder import linear_weights, width_of
from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.actdistill.flops import counted
from sterna.actdistill.router import Router
from sterna.data.ego.samples import PREVIOUS
from sterna.edge.asked import (
    Kept,
    PassGraph,
    RouteGraph,
    SeeGraph,
    TurnGraph,
    WordsGraph,
    asked_parts,
    cache_shape,
    check_plain,
    frame_size,
    plain_attention,
)
from sterna.edge.bench.frames import drawn_walk
from sterna.edge.card import CARD, README, foot, machine
from sterna.edge.export import TOKENIZER, new_folder
from sterna.edge.routed_files import EVERY, Graphs, Routed, write_parts
from sterna.edge.routed_folder import routes_of
from sterna.edge.runtime.answerer import Answerer, Asking, Seen, Talk, recent_of
from sterna.edge.runtime.engine import Array
from sterna.edge.runtime.folder import FORMAT, MANIFEST, NAVIGATOR, digest
from sterna.files import sha256, write_json, write_text
from sterna.models.navigator.vlm import VlmNavigator
from sterna.world.geometry import Ints
from sterna.world.talk.images import token_grid
from sterna.world.talk.reading import NOW, PAST

DECISIONS = 24
"""Answers that a card compares."""
_TOLD = ("go to the red sofa in the kitchen", "go to the bed", "turn left and stop at the lamp")


class TorchAnswerer(Asking):
    """A navigator in torch behind the interface of `runtime.answerer.Answerer`, one row a call.

    The layers are the model's own; what lies around them is asked for as an export asks (`asked`).
    """

    def __init__(self, stack: NavigatorStack, router: Router | None = None, threshold: float = 0.0):
        """Take a navigator; without a router every layer runs. `InputError` as for export."""
        check_plain(stack)
        navigator: VlmNavigator = stack.eval().model
        self.stack, self.navigator = stack, navigator
        self._see, self._words, self._turn = (
            SeeGraph(navigator),
            WordsGraph(navigator),
            TurnGraph(stack),
        )
        self._through = PassGraph(stack)
        self._router = None if router is None else RouteGraph(router.eval())
        self._threshold = torch.tensor(threshold)
        self._empty = torch.zeros(1, cache_shape(stack)[0], 0, cache_shape(stack)[1])
        images, kept = navigator.processor.images, navigator.history
        super().__init__(
            navigator.processor,
            navigator.wording,
            history=(kept.kind, kept.budget),
            previous=PREVIOUS,
            grids={
                PAST: token_grid(*self.size, images, past=True),
                NOW: token_grid(*self.size, images),
            },
            flops=costs_of(stack, router),
        )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a frame, in pixels."""
        return self._see.size

    @torch.inference_mode()
    def _look(self, frames: NDArray[np.uint8]) -> tuple[Array, Array]:
        now, then = self._see(torch.from_numpy(frames))
        return now.numpy(), then.numpy()

    @torch.inference_mode()
    def _embed(self, ids: Ints) -> Array:
        found: Array = self._words(torch.from_numpy(ids)).numpy()
        return found

    @torch.inference_mode()
    def _turned(self, positions: Ints) -> tuple[Array, Array]:
        cos, sin = self._turn(torch.from_numpy(positions))
        return cos.numpy(), sin.numpy()

    @torch.inference_mode()
    def _gates(self, vision: Array, words: Array, previous: Ints) -> NDArray[np.bool_]:
        if self._router is None:
            return np.ones(len(self.stack.units), np.bool_)
        recent = recent_of(previous, PREVIOUS)
        given = (torch.from_numpy(part) for part in (vision, words, recent))
        found: NDArray[np.bool_] = self._router(self._threshold, *given).numpy()
        return found

    def _talk(self, gates: NDArray[np.bool_], angles: tuple[Array, Array]) -> Talk:
        return _TorchTalk(self, np.flatnonzero(gates).tolist(), angles)


class _TorchTalk(Talk):
    """An answer under way in torch."""

    def __init__(
        self, asking: TorchAnswerer, open_: Sequence[int], angles: tuple[Array, Array]
    ) -> None:
        super().__init__(asking, open_, angles)
        self._graph = asking._through
        self._kept = {unit: Kept(asking._empty, asking._empty) for unit in open_}

    @torch.inference_mode()
    def _pass(self, x: Array, cos: Array, sin: Array, mask: Array) -> Array:
        angles = torch.from_numpy(cos), torch.from_numpy(sin)
        # One token looks at all before it, so there is nothing to hide from it.
        hidden = None if len(x) == 1 else torch.from_numpy(mask)[None, None]
        found: Array = self._graph.through(torch.from_numpy(x), angles, hidden, self._kept).numpy()
        return found


def export_navigator(
    stack: NavigatorStack,
    to: Path,
    *,
    routed: Routed | None = None,
    int8: int = 0,
    keep: Sequence[int] | None = None,
    about: Mapping[str, Any] | None = None,
    beside: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Export a navigator into `to`, atomically; return its card. Files `beside` are copied.

    With `routed` (of that stack) its layers stand in branches, and with `keep` static graphs of
    those layers are written beside. `InputError` for what cannot be exported (`edge.asked`).
    """
    router = None if routed is None else routed.router
    fixed = [unit.fixed for unit in stack.units]
    with new_folder(to) as folder:
        with plain_attention(stack.model):
            parts = asked_parts(stack, router)
            graphs = write_parts(parts, fixed, folder, int8=int8, keep=keep, whole=router is None)
        written = stack.model.processor.save(folder)
        for name, file in (beside or {}).items():
            shutil.copyfile(file, folder / name)
        content = _manifest(stack, routed, graphs, keep, written, about or {})
        _write(folder, content)
        card = _card(stack, routed, folder, graphs, keep)
        write_json(folder / CARD, card)
        write_text(folder / README, readme(card))
        _write(folder, content)
    return card


def _manifest(
    stack: NavigatorStack,
    routed: Routed | None,
    graphs: Graphs,
    keep: Sequence[int] | None,
    written: Mapping[str, Any],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    navigator = stack.model
    images = navigator.processor.images
    size = frame_size(navigator)
    return {
        "format": FORMAT,
        "model": NAVIGATOR,
        "version": __version__,
        "graphs": graphs,
        "frame": list(size),
        "grids": {
            "now": list(token_grid(*size, images)),
            "then": list(token_grid(*size, images, past=True)),
        },
        "marks": images.marks,
        "template": written["template"],
        "wording": asdict(navigator.wording),
        "history": asdict(navigator.history),
        "previous": PREVIOUS,
        "cache": list(cache_shape(stack)),
        "tokenizer": TOKENIZER,
        "flops": costs_of(stack, None if routed is None else routed.router),
        "routes": _whole(stack) if routed is None else routes_of(routed, keep),
        "about": json.loads(json.dumps(dict(about), allow_nan=False)),
    }


def _whole(stack: NavigatorStack) -> dict[str, Any]:
    names = [unit.name for unit in stack.units]
    budgets = [{"rho": 1.0, "threshold": EVERY}]
    return {"units": names, "rho": 1.0, "budgets": budgets, "static": None}


def costs_of(stack: NavigatorStack, router: Router | None) -> dict[str, Any]:
    """Return what FLOPs are reckoned with (2 a multiplication with its addition).

    Of a frame (``see``), of what follows a pass (``head``), of the router (``router_image`` and
    ``router_word`` for each of a question's, ``router`` beside), and of layers: the weights of
    their ``linears``, and the ``width`` of their attention.
    """
    see = SeeGraph(stack.model)
    frame = torch.zeros(*see.size, 3, dtype=torch.uint8)
    image = word = rest = 0
    if router is not None:
        each = stack.width * router.config.width
        image, word = each * router.config.vision, each * router.config.text
        rest = sum(p.numel() for p in router.parameters()) - image - word
    return {
        "see": counted(see, lambda: see(frame[None])),
        "head": 2 * stack.model.core.lm_head.weight.numel(),
        "linears": [linear_weights(layer) for layer in stack.trunk.layers],
        "width": width_of(stack.trunk),
        "router_image": 2 * image,
        "router_word": 2 * word,
        "router": 2 * rest,
    }


def _write(folder: Path, content: dict[str, Any]) -> None:
    names = sorted(file.name for file in folder.iterdir() if file.name != MANIFEST)
    whole = content | {"files": {name: sha256(folder / name) for name in names}}
    write_json(folder / MANIFEST, whole | {"digest": digest(whole)})


def _card(
    stack: NavigatorStack,
    routed: Routed | None,
    folder: Path,
    graphs: Graphs,
    keep: Sequence[int] | None,
) -> dict[str, Any]:
    navigator = stack.model
    budgets = {1.0: EVERY} if routed is None else dict(routed.thresholds)
    parity: dict[str, list[dict[str, Any]]] = {}
    for engine in graphs:
        static = engine.startswith("onnx-static")
        rhos = [routed.rho] if routed is not None and static else list(budgets)
        parity[engine] = []
        for rho in rhos:
            if static and keep is not None:
                twin = TorchAnswerer(_only(stack, keep))
            elif routed is None:
                twin = TorchAnswerer(stack)
            else:
                twin = TorchAnswerer(stack, routed.router, routed.thresholds[rho])
            ours = Answerer.open(folder, engine, rho=rho)
            parity[engine].append({"rho": rho} | _compare(twin, ours, static))
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.glob("*.onnx"))
    }
    return {
        "name": folder.name.split(".")[1] if folder.name.startswith(".") else folder.name,
        "kind": f"navigator ({navigator.family})",
        "parameters": sum(p.numel() for p in navigator.parameters()),
        "router_parameters": 0
        if routed is None
        else sum(p.numel() for p in routed.router.parameters()),
        "units": [unit.name for unit in stack.units],
        "frame": list(frame_size(navigator)),
        "engines": list(graphs),
        "files": files,
        "decisions": DECISIONS,
        "parity": parity,
        "made_with": machine(),
    }


def _only(stack: NavigatorStack, keep: Sequence[int]) -> NavigatorStack:
    pruned = stack.pruned(keep)
    assert isinstance(pruned, NavigatorStack)
    return pruned


def _compare(twin: TorchAnswerer, ours: Answerer, static: bool) -> dict[str, Any]:
    """Compare answers along made-up walks: what was done before is what torch said."""
    same, gates, worst, ran, done = 0, 0, 0.0, 0, 0
    most = twin.navigator.history.budget + 4
    for walk, told in enumerate(_TOLD):
        seen: tuple[list[Seen], list[Seen]] = ([], [])
        taken: list[int] = []
        steps = DECISIONS // len(_TOLD)
        ask = set(np.linspace(0, most - 1, steps).astype(int).tolist())
        for step, frame in enumerate(drawn_walk(twin.size, most, walk)):
            seen[0].append(twin.see(frame))
            seen[1].append(ours.see(frame))
            if step in ask:
                wanted = twin.answer(told, seen[0], taken)
                found = ours.answer(told, seen[1], taken)
                alike = static or bool((wanted.gates == found.gates).all())
                gates += alike
                same += bool((wanted.actions == found.actions).all())
                if alike and (wanted.actions == found.actions).all():
                    worst = max(worst, abs(wanted.log_prob - found.log_prob))
                ran, done = ran + int(found.gates.sum()), done + 1
            taken.append((walk + step) % 3 + 1)
    return {
        "same_answers": same,
        "same_gates": gates,
        "compared": done,
        "largest_difference": worst,
        "units_run": ran / done,
    }


def readme(card: Mapping[str, Any]) -> str:
    """Return a card as Markdown."""
    rows, columns = card["frame"]
    routes = ", each in an `If`" if card["router_parameters"] else ""
    lines = [
        f"# {card['name']}, exported",
        "",
        f"A {card['kind']} of {card['parameters']:,} parameters; {len(card['units'])} layers"
        f"{routes}. It takes frames of {rows} x {columns} pixels; torch is not needed.",
        "",
        "```python",
        "from sterna.edge.runtime.answerer import open_walker",
        "",
        f'walker = open_walker("this/folder", "{card["engines"][0]}")',
        'walker.start("go to the red sofa")',
        "action = walker.act(frame)  # again and again, until it says STOP",
        "```",
        "",
        "Compared with torch on made-up walks:",
        "",
        "| engine | rho | same answers | same gates | layers run | largest difference, nats |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for engine, found in card["parity"].items():
        lines += [
            f"| {engine} | {row['rho']:g} | {row['same_answers']}/{row['compared']} "
            f"| {row['same_gates']}/{row['compared']} | {row['units_run']:.2f} "
            f"| {row['largest_difference']:.1e} |"
            for row in found
        ]
    return "\n".join([*lines, *foot(card)]) + "\n"
