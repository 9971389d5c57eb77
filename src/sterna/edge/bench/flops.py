"""Floating-point operations of an episode, counted while it runs.

A multiplication with its addition counts as two; matrix products and attention are counted, norms,
softmax and activations are not (torch's own convention). The fused attention of CPUs counts as
nothing there, so the attention that is made of plain products runs while counting.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sterna.actdistill.router import Router
from sterna.edge.bench.episode import Shape, observations, word_ids
from sterna.edge.bench.torch_engine import TorchEngine
from sterna.edge.runtime import Navigator
from sterna.models.duet import DUET


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Operations of one episode: `text` once, `steps` one entry a decision."""

    text: int
    steps: tuple[int, ...]

    @property
    def episode(self) -> int:
        """All of them."""
        return self.text + sum(self.steps)

    @property
    def step(self) -> float:
        """Mean over the decisions, the text left out."""
        return sum(self.steps) / len(self.steps)


def count_flops(model: DUET, shape: Shape, routed: tuple[Router, float] | None = None) -> Flops:
    """Walk the episode once and count what runs; weights do not matter, sizes do.

    Of a routed policy (its router and threshold) units that are skipped do not run, so weights do
    matter.
    """
    config = model.config
    engine = TorchEngine(model.float().eval(), routed=routed)
    navigator = Navigator(engine, max_steps=shape.steps)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            navigator.start(word_ids(shape, config.vocab_size))
        text, steps = counter.get_total_flops(), []
        for seen in observations(shape, config.feature_size, config.object_size):
            with FlopCounterMode(display=False) as counter:
                navigator.score(seen)
            steps.append(counter.get_total_flops())
    return Flops(text=text, steps=tuple(steps))
