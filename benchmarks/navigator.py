"""navigator-s: samples a second of fine-tuning, answers a second of generation and of GRPO.

Samples and frames are drawn at random (sizes decide, not content): fine-tuning reads a frozen
tower's features from memory, generation answers questions one by one and in batches, constrained
and free, GRPO learns from groups of eight answers whose question is read once, or each with its
question. Seconds are of this process's CPU (`--wall` for the clock's), so that what else runs on
the machine weighs less.

Usage: python benchmarks/navigator.py [--batch 64] [--steps 5] [--budget 8] [--wall] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from sterna.data.ego.samples import EgoSample
from sterna.models.navigator.generation import sample
from sterna.models.navigator.small import SMALL_SIZES, small_model, small_processor
from sterna.models.navigator.vlm import History, VlmNavigator
from sterna.train.sft import SftTask, Weighed
from sterna.vlnr1.answers import Answered, AnswersConfig, AnswersTask
from sterna.vlnr1.objective import ObjectiveConfig
from sterna.world.talk.memory import history
from sterna.world.talk.prompts import Wording

ANSWER = 6


def make(budget: int) -> VlmNavigator:
    """A navigator-s as the recipe makes it, with random weights."""
    processor = small_processor(SMALL_SIZES)
    wording = Wording(turn_angle=30, actions=ANSWER, style="short", previous=True)
    navigator = VlmNavigator(
        small_model(SMALL_SIZES, processor), processor, wording, history=History(budget=budget)
    )
    navigator.tower.requires_grad_(False)
    return navigator


def draw(count: int, budget: int, seed: int) -> list[EgoSample]:
    """Samples of walks of 25 steps."""
    rng = np.random.default_rng(seed)
    out = []
    for step in rng.integers(0, 25, count).tolist():
        out.append(
            EgoSample(
                instr_id="x",
                step=step,
                instruction="Go to the red sofa in the kitchen.",
                history=history(step, "long-short", budget),
                current=0,
                previous=rng.integers(1, 4, min(8, step)),
                actions=rng.integers(0, 4, ANSWER),
            )
        )
    return out


def fine_tuning(navigator: VlmNavigator, samples: list[EgoSample], steps: int, clock: Any) -> float:
    """Samples a second of laying out, forward, backward and AdamW."""
    task = SftTask(navigator)
    learnt = [weight for weight in navigator.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4)
    answers = [navigator.wording.answer(one.actions) for one in samples]
    features = _features(samples, navigator)
    begin = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first is not counted
            begin = clock()
        batch = navigator.batch(samples, (64, 64), features=features, answers=answers)
        optimizer.zero_grad()
        task(Weighed(batch, 1 / (ANSWER * len(samples)))).loss.backward()
        optimizer.step()
    return steps * len(samples) / (clock() - begin)


def answering(
    navigator: VlmNavigator,
    samples: list[EgoSample],
    at_once: int,
    clock: Any,
    *,
    constrained: bool,
) -> float:
    """Answers a second, `at_once` questions a generation."""
    parts = [samples[first : first + at_once] for first in range(0, len(samples), at_once)]
    begin = clock()
    for part in parts:
        batch = navigator.batch(part, (64, 64), features=_features(part, navigator))
        sample(navigator, batch, constrained=constrained)
    return len(samples) / (clock() - begin)


def practice(
    navigator: VlmNavigator, samples: list[EgoSample], steps: int, clock: Any, *, once: bool
) -> float:
    """Answers a second that GRPO learns from: forward and backward, `once` a question."""
    config = AnswersConfig(objective=ObjectiveConfig(kl_weight=0.0), constrained=True)
    task, group = AnswersTask(navigator, None, config).train(), config.objective.group
    rng = np.random.default_rng(0)
    count = len(samples) * group
    actions = rng.integers(0, 4, (count, ANSWER))
    ends = np.cumsum([len(one.history) + 1 for one in samples])
    told = navigator.processor.answer_ids
    given = Answered(
        questions=tuple(samples),
        images=_features(samples, navigator),
        size=(64, 64),
        shown=tuple(np.split(np.arange(ends[-1]), ends[:-1])),
        question=np.repeat(np.arange(len(samples)), group),
        tokens=tuple(tuple(told(navigator.wording.answer(row))) for row in actions),
        actions=actions,
        advantage=rng.normal(size=count),
        weight=np.full(count, 1 / (ANSWER * count)),
    )
    kept = VlmNavigator.reads_apart
    VlmNavigator.reads_apart = property(lambda _: once)  # type: ignore[assignment]
    begin = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first is not counted
            begin = clock()
        navigator.zero_grad()
        task(given).loss.backward()
    VlmNavigator.reads_apart = kept  # type: ignore[method-assign]
    return steps * count / (clock() - begin)


def _features(samples: list[EgoSample], navigator: VlmNavigator) -> torch.Tensor:
    count = sum(len(one.history) + 1 for one in samples)
    return torch.randn(count, *navigator.token_shape((64, 64)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.perf_counter if args.wall else time.process_time
    navigator = make(args.budget)
    samples = draw(args.batch, args.budget, 0)
    found: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in navigator.parameters()),
        "batch": args.batch,
        "samples_per_second": round(fine_tuning(navigator, samples, args.steps, clock), 1),
    }
    frames = np.zeros((args.batch, 64, 64, 3), np.uint8)
    begin = clock()
    with torch.no_grad():
        navigator.features(frames)
    found["frames_seen_per_second"] = round(args.batch / (clock() - begin), 1)
    for constrained in (True, False):
        kind = "constrained" if constrained else "free"
        one, many = (
            answering(navigator, samples, at_once, clock, constrained=constrained)
            for at_once in (1, args.batch)
        )
        found[kind] = {
            "answers_per_second_alone": round(one, 1),
            "answers_per_second_together": round(many, 1),
            "times": round(many / one, 2),
        }
    whole, once = (
        practice(navigator, samples, args.steps, clock, once=once) for once in (False, True)
    )
    found["practice"] = {
        "answers_per_second_whole": round(whole, 1),
        "answers_per_second_shared": round(once, 1),
        "times": round(once / whole, 2),
    }
    if args.json:
        print(json.dumps(found))
        return
    print(f"{found['parameters']:,} parameters, batches of {args.batch}, one thread")
    print(f"{found['samples_per_second']} samples/s of fine-tuning")
    print(f"{found['frames_seen_per_second']} frames/s seen by the tower")
    for kind in ("constrained", "free"):
        rates = found[kind]
        print(
            f"{kind} answers: {rates['answers_per_second_alone']}/s one by one, "
            f"{rates['answers_per_second_together']}/s together, {rates['times']} times"
        )
    rates = found["practice"]
    print(
        f"GRPO learns from {rates['answers_per_second_whole']} answers/s each with its question, "
        f"{rates['answers_per_second_shared']} with questions read once, {rates['times']} times"
    )


if __name__ == "__main__":
    main()
