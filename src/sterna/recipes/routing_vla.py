"""Small vision-language-action policies for ActDistill's commands: scored on Meta-World."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.flops import counted
from sterna.actdistill.stack import Decide, Stack
from sterna.actdistill.vla_policy import RoutedVla, fingerprint
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.metrics.manipulation import METAWORLD_10, ManipulationProtocol
from sterna.models.vla import VlaBatch
from sterna.models.vla_folder import from_pretrained
from sterna.recipes.actdistill import VlaAct
from sterna.recipes.manipulation import evaluate_policy, observations, summary, time_decisions
from sterna.recipes.metaworld import held_out_frames, open_samples
from sterna.recipes.routing import Walked, last_of
from sterna.train.cloning import Frames

SPLIT = "goals"
"""What a policy is scored on: the goals of the protocol."""


class VlaSubject:
    """A policy on the demonstrations that it was cloned from."""

    def __init__(self, config: VlaAct) -> None:
        """Open the policy (a folder, or a run's `last`) and its demonstrations."""
        self.config = config
        self.stack = self.other(config.need_teacher())
        self._samples = open_samples(config.demos, self.stack.model.config)
        self._seen: list[VlaBatch] = []

    def other(self, folder: Path) -> VlaStack:
        """Open a policy (a folder, or a run's `last`)."""
        config = self.config
        policy = from_pretrained(last_of(folder))
        return VlaStack(policy, shift=config.shift, feel_noise=config.feel_noise)

    def learn(self) -> Frames:
        """Return the training frames."""
        return Frames(self._samples, self._samples.train)

    def held_out(self) -> Frames:
        """Return held-out frames."""
        return Frames(self._samples, held_out_frames(self._samples, self.config.judged))

    def score(
        self, stack: Stack, decide: Decide, split: str, about: int | None, measured: int
    ) -> Walked:
        """Do the protocol's episodes (`about` of each task); `split` must be "goals".

        Decisions are timed and counted on an observation of each of the first `measured` tasks.
        """
        if split != SPLIT:
            raise InputError(f"actdistill: Meta-World has --split {SPLIT} alone, found {split!r}")
        assert isinstance(stack, VlaStack)
        protocol, config = shorter(METAWORLD_10, about), stack.model.config
        mark = fingerprint(stack, decide, [self.held_out().batch(range(16))])
        folder = self.config.scores / f"{protocol.hash}-{mark}"
        policy = RoutedVla(stack, decide)
        rows = evaluate_policy(
            policy,
            config,
            folder,
            settings={"fingerprint": mark},
            protocol=protocol,
            execute=self.config.execute,
        )
        open_ = _frequencies(policy, folder / "gates.json")
        found, share = summary(rows), float(np.mean(open_))
        batches = self._observations(protocol)[: max(1, measured)]
        timing = time_decisions(RoutedVla(stack, decide), batches)
        unit = stack.cost(0, stack.prepare(batches[0]))
        return Walked(
            scores=_scores(found),
            share=share,
            flops=share * unit * len(stack.units),
            open_=open_,
            counted={"flops_per_decision": _counted(stack, decide, batches)},
            milliseconds={"median": timing.median_ms, "p95": timing.p95_ms},
            per_episode={"success": [float(row["success"]) for row in rows]},
        )

    def _observations(self, protocol: ManipulationProtocol) -> list[VlaBatch]:
        if not self._seen:
            self._seen = observations(protocol, self.stack.model.config)
        return self._seen

    def keep(self, stack: Stack, folder: Path, notes: str) -> None:
        """Write the weights as a saved policy."""
        assert isinstance(stack, VlaStack)
        stack.model.save_pretrained(folder, notes=notes)


def shorter(protocol: ManipulationProtocol, about: int | None) -> ManipulationProtocol:
    """Return a protocol of about so many episodes, over all tasks; None: as it is."""
    if about is None:
        return protocol
    each = max(1, round(about / len(protocol.tasks)))
    if each == protocol.episodes:
        return protocol
    return replace(protocol, name="METAWORLD_CUSTOM", episodes=each)


def _scores(found: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return success over all tasks and of each."""
    named = {"success": found, **{f"success {name}": v for name, v in found["tasks"].items()}}
    return {
        name: {"mean": value["success"], "standard_error": value["standard_error"]}
        for name, value in named.items()
    }


def _frequencies(policy: RoutedVla, kept: Path) -> list[float]:
    """Return how often each unit ran; counts are kept beside the episodes and grow with them."""
    ran, rows = policy.ran.tolist(), policy.rows
    if kept.is_file():
        before = read_json(kept)
        ran = [a + b for a, b in zip(before["ran"], ran, strict=True)]
        rows += before["rows"]
    write_json(kept, {"rows": rows, "ran": ran})
    return [count / max(1, rows) for count in ran]


def _counted(stack: VlaStack, decide: Decide, batches: Sequence[VlaBatch]) -> float:
    """Return the FLOPs of a decision, stem, router and head included, as counted."""
    policy = RoutedVla(stack, decide)
    return counted(stack, lambda: [policy(batch) for batch in batches]) / len(batches)
