"""Vision-language navigators for ActDistill's commands: answers on held-out walks, and walks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sterna.actdistill.adapters.navigator import (
    Held,
    NavigatorBatch,
    NavigatorStack,
    answer,
    hooked,
    previous_actions,
)
from sterna.actdistill.flops import counted
from sterna.actdistill.stack import Decide, Stack, gated
from sterna.data.ego.joined import JoinedStore
from sterna.data.ego.samples import EgoSample, EgoSamples
from sterna.data.ego.store import EgoStore
from sterna.errors import InputError
from sterna.metrics.result import Result
from sterna.models.navigator.agent import ActingConfig, NavigatorAgent, Observation
from sterna.models.navigator.folder import load, save
from sterna.models.navigator.processor import IGNORED
from sterna.models.navigator.sources import Images, JoinedImages, SeenFrames
from sterna.models.navigator.vlm import VlmNavigator
from sterna.recipes.actdistill import NavigatorAct
from sterna.recipes.continuous import evaluate
from sterna.recipes.navigators import check_turns
from sterna.recipes.routing import Walked, last_of, percentiles
from sterna.recipes.simulated import EvalConfig, maker_of, protocol_of, read_episodes
from sterna.train.sft import answer_loss, first_right, question_batch

_WALKED = ("SR", "SPL", "SR_1m", "SPL_1m")
"""Scores that are kept episode by episode."""


class EgoRouted:
    """Samples of egocentric walks, as ActDistill's stages take them."""

    def __init__(self, navigator: VlmNavigator, samples: Sequence[EgoSample], images: Images):
        """Put samples and their images together."""
        self.navigator, self.samples, self.images = navigator, samples, images
        self.ids = [f"{s.instr_id} {s.step} {s.current}" for s in samples]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def batch(self, index: Sequence[int]) -> NavigatorBatch:
        """Return questions with the expert's answers."""
        chosen = [self.samples[i] for i in index]
        return NavigatorBatch(
            batch=question_batch(self.navigator, chosen, self.images, answered=True),
            actions=torch.from_numpy(np.stack([s.actions for s in chosen])).long(),
            previous=previous_actions([s.previous for s in chosen]),
        )


class RoutedNavigator(NavigatorAgent):
    """A `NavigatorAgent` whose router is told the actions before each answer."""

    held: Held

    def _ask(self, slots: Sequence[int], observations: Sequence[Observation | None]) -> None:
        self.held.previous = previous_actions([self._slots[slot].taken for slot in slots])
        super()._ask(slots, observations)


class NavigatorSubject:
    """A navigator of `sterna sft` on the walks that it was fine-tuned on."""

    def __init__(self, config: NavigatorAct, root: Path | None) -> None:
        """Open the navigator (a folder, or a run's `last`)."""
        self.config, self.root = config, root
        self.folder = last_of(config.need_teacher())
        self.stack = self.other(self.folder)

    def other(self, folder: Path) -> NavigatorStack:
        """Open a navigator; `InputError` for an adapter."""
        navigator = load(last_of(folder))
        if navigator.adapted:
            raise InputError(
                f"{folder}: an adapter beside its base; merge it first (save the merged model)"
            )
        return NavigatorStack(navigator.eval())

    def _samples(self, folders: Sequence[Path], most: int | None) -> EgoRouted:
        walks, navigator = self.config.walks, self.stack.model
        stores = [EgoStore(folder) for folder in folders]
        joined = JoinedStore(stores)
        memory = navigator.history
        samples: Sequence[EgoSample] = EgoSamples(
            joined, navigator.wording.actions, memory.kind, memory.budget, stride=walks.stride
        )
        if most is not None and most < len(samples):
            rows = np.linspace(0, len(samples) - 1, most).astype(np.int64)
            samples = [samples[int(row)] for row in rows]
        # The tower is frozen in every student, so it sees each frame once.
        seen = [walks.cache or s.folder.with_name(s.folder.name + "-seen") for s in stores]
        images = [
            SeenFrames(navigator, store, where, blind=walks.blind)
            for store, where in zip(stores, seen, strict=True)
        ]
        return EgoRouted(navigator, samples, JoinedImages(images, joined.starts))

    def learn(self) -> EgoRouted:
        """Return the training walks, all folders of them."""
        return self._samples([self.config.walks.train, *self.config.walks.more], None)

    def held_out(self) -> EgoRouted:
        """Return held-out walks; `InputError` where there are none."""
        folder = self.config.walks.held_out
        if folder is None:
            raise InputError("actdistill: no held-out walks; give --config.walks.held-out DIR")
        return self._samples([folder], self.config.walks.judged)

    def score(
        self, stack: Stack, decide: Decide, split: str, about: int | None, measured: int
    ) -> Walked:
        """Answer held-out samples; where there is an environment, walk its episodes too."""
        assert isinstance(stack, NavigatorStack)
        stack.eval()
        samples = self.held_out()
        walked = _answered(stack, decide, samples)
        if measured:
            walked.counted, walked.milliseconds = _cost(stack, decide, samples, measured)
        if self.config.env == "house":
            found = self._walk(stack, decide, split, about)
            walked.scores |= {name: dict(vars(score)) for name, score in found.scores.items()}
            table = found.per_episode or {}
            walked.per_episode = {n: list(table[n]) for n in _WALKED if n in table}
        return walked

    def _walk(self, stack: NavigatorStack, decide: Decide, split: str, about: int | None) -> Result:
        env = EvalConfig(
            env="house",
            agent=str(self.folder),
            split=split,
            episodes=self.config.env_episodes,
            slots=self.config.slots,
            about=about,
        )
        protocol = protocol_of(env)
        episodes, references = read_episodes(env, self.root)
        with hooked(stack, decide) as held:
            agent = RoutedNavigator(stack.model, ActingConfig(execute=self.config.execute))
            agent.held = held
            check_turns(agent, protocol)
            make = maker_of(env, protocol, episodes, ("rgb",))
            return evaluate(agent, make, episodes, protocol, references=references)

    def keep(self, stack: Stack, folder: Path, notes: str) -> None:
        """Write the navigator as `sterna sft` does."""
        assert isinstance(stack, NavigatorStack)
        save(stack.model, folder, notes=notes)


@torch.no_grad()
def _answered(stack: NavigatorStack, decide: Decide, samples: EgoRouted) -> Walked:
    """Score teacher-forced answers: nats a token, first action right, whole answer right."""
    values: dict[str, list[float]] = {"nll": [], "first": [], "whole": []}
    open_ = np.zeros(len(stack.units))
    totals = {"spent": 0.0, "full": 0.0}

    def meter(unit: int, cost: float) -> None:
        totals["spent"] += cost

    for begin in range(0, len(samples), 32):
        batch = samples.batch(range(begin, min(begin + 32, len(samples))))
        state = stack.prepare(batch)
        totals["full"] += sum(stack.cost(unit, state) for unit in range(len(stack.units)))
        passed = gated(stack, state, decide, skip=True, meter=meter)
        open_ += passed.gates[0].double().sum(0).numpy()
        length, targets = batch.batch.encoded.answer_length, stack.model.targets(batch.batch)
        features = stack.finish(passed.state).x[:, -length - 1 : -1]
        logits = stack.model.core.lm_head(features).float()
        kept = targets != IGNORED
        nats = answer_loss(logits, targets).sum(1) / kept.sum(1)
        values["nll"] += nats.tolist()
        values["first"] += first_right(logits, targets).float().tolist()
        values["whole"] += ((logits.argmax(-1) == targets) | ~kept).all(1).float().tolist()
    count = len(samples)
    return Walked(
        scores={name: _mean(found) for name, found in values.items()},
        share=totals["spent"] / totals["full"],
        flops=totals["spent"] / count,
        open_=(open_ / count).tolist(),
    )


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    array = np.array(values)
    spread = float(array.std(ddof=1) / len(array) ** 0.5) if len(array) > 1 else None
    return {"mean": float(array.mean()), "standard_error": spread}


def _cost(
    stack: NavigatorStack, decide: Decide, samples: EgoRouted, measured: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Count and time whole answers one by one, the tower included where frames are given."""
    navigator, seconds, total = stack.model, [], 0.0
    rows = range(min(measured, len(samples)))
    for row in rows:
        one = [samples.samples[row]]
        batch = question_batch(navigator, one, samples.images, answered=False)
        previous = previous_actions([one[0].previous])

        def work(batch: object = batch, previous: torch.Tensor = previous) -> None:
            answer(stack, batch, decide, previous)  # type: ignore[arg-type]

        if not row:
            work()  # once unseen, so that nothing is met for the first time
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
        total += counted(stack, work)
    flops = {"flops_per_decision": total / len(rows), "decisions": float(len(rows))}
    return flops, percentiles(seconds)
