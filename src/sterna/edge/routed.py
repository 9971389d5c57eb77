"""A routed policy as one graph for one row: inputs by name -> actions and gates.

In torch a skipped unit is not run. For export every unit runs, one after the other, and what lies
between units leaves the graph under a name of its own; `branches` then cuts the written graph there
and puts each unit into an `If`. Graph heads, action heads and losses are no part of it.

Legend: U units, T steps of a chunk, A width of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sterna.actdistill.adapters.llama_vla import LlamaVlaStack
from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.router import Router
from sterna.actdistill.stack import RouterInput, Stack, State, everything
from sterna.errors import InputError
from sterna.models.llama_vla.model import LlamaVlaBatch
from sterna.models.vla import VlaBatch

Values = tuple[Tensor, ...]
"""What a unit reads and changes (`Stack.read`)."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One decision of a policy as named arrays: examples, free sizes, and how they make a batch."""

    inputs: Mapping[str, Tensor]
    batch: Callable[[Mapping[str, Tensor]], Any]
    free: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """What a runtime needs to know of them."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a unit lies in a flat graph: names of what goes in and of what comes out."""

    unit: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def vla_form(stack: VlaStack) -> Form:
    """Return the form of a small vision-language-action policy (`models.vla`)."""
    config = stack.model.config
    side = config.image_size
    example = torch.arange(config.cameras * side * side * 3) % 251
    return Form(
        inputs={
            "images": example.to(torch.uint8).view(1, config.cameras, side, side, 3),
            "words": torch.ones(1, config.max_words, dtype=torch.int64),
            "proprio": torch.full((1, config.proprio), 0.1),
            "recent": torch.zeros(1, config.chunk * config.action),
        },
        batch=lambda given: VlaBatch(**given),
        sizes={
            "words": list(config.words),
            "max_words": config.max_words,
            "chunk": config.chunk,
            "action": config.action,
        },
    )


def llama_vla_form(stack: LlamaVlaStack) -> Form:
    """Return the form of a Llama-shaped policy; any number of words, none of them padding."""
    config = stack.model.config
    if config.head != "last":
        raise InputError(
            f"export: head {config.head!r} runs the decoder or itself in a loop, which one graph "
            "does not hold; export models with head last"
        )

    def batch(given: Mapping[str, Tensor]) -> LlamaVlaBatch:
        ids = given["ids"]
        mask = torch.ones_like(ids, dtype=torch.bool)
        recent = given["recent"].view(-1, config.steps, config.size)
        return LlamaVlaBatch(images=given["images"], ids=ids, mask=mask, recent=recent)

    return Form(
        inputs={
            "images": torch.full((1, 3, config.side, config.side), 0.5),
            "ids": torch.arange(7)[None] % config.vocabulary,
            "recent": torch.zeros(1, config.steps * config.size),
        },
        batch=batch,
        free={"ids": {1: "words"}},
        sizes={"chunk": config.steps, "action": config.size},
    )


_FORMS: list[tuple[type[Stack], Callable[[Any], Form]]] = [
    (VlaStack, vla_form),
    (LlamaVlaStack, llama_vla_form),
]


def register_form(stack: type[Stack], form: Callable[[Any], Form]) -> None:
    """Make the form of another kind of stack known."""
    _FORMS.append((stack, form))


def form_of(stack: Stack) -> Form:
    """Return the form of a stack; `InputError` where none is known."""
    for kind, form in reversed(_FORMS):
        if isinstance(stack, kind):
            found: Form = form(stack)
            return found
    known = ", ".join(kind.__name__ for kind, _ in _FORMS)
    raise InputError(
        f"export: no form for {type(stack).__name__} (known: {known}); make one known by "
        "edge.routed.register_form"
    )


class RoutedGraph(nn.Module):
    """A stack with its router, one row; without a router every unit runs."""

    def __init__(self, stack: Stack, router: Router | None, *, flat: bool = False) -> None:
        """Take a policy in eval mode; `flat` is the way of export."""
        super().__init__()
        self.stack, self.router, self.flat = stack.eval(), router, flat
        if router is not None:
            router.eval()
        self.form = form_of(stack)
        self.trace: Trace | None = None

    def forward(self, threshold: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return actions [T, A], gates bool [U], and with `flat` what lies between units."""
        given = dict(zip(self.form.inputs, inputs, strict=True))
        self.trace = trace = Trace(self.stack, self.router, threshold, flat=self.flat)
        state = self.stack.prepare(self.stack.question(self.form.batch(given)))
        actions = self.stack.act(state, trace.through)
        return (actions[0], trace.gates(), *trace.between.values())


class Trace:
    """One pass of one row: gates, units run or skipped, and (flat) where they lie."""

    def __init__(
        self, stack: Stack, router: Router | None, threshold: Tensor, *, flat: bool
    ) -> None:
        """Begin."""
        self.stack, self.router, self.threshold, self.flat = stack, router, threshold, flat
        self.cuts: list[Cut] = []
        self.between: dict[str, Tensor] = {}
        self._gates: dict[int, Tensor] = {}
        self._open: dict[int, dict[int, bool]] = {}
        self._names: dict[int, str] = {}

    def gates(self) -> Tensor:
        """Return the gates of all units decided so far, bool [U]."""
        return torch.cat([self._gates[phase] for phase in sorted(self._gates)])

    def decide(self, phase: int, seen: RouterInput) -> None:
        """Decide the gates of a phase: logits above the threshold; fixed units always run."""
        if phase in self._gates:
            raise InputError(
                "export: this policy passes its layers more than once a decision (words one by "
                "one, or denoising); one graph holds one pass"
            )
        if self.router is None:
            self._gates[phase] = (everything(self.stack)(phase, seen) > 0.5)[0]
        else:
            self.open(phase, self.router.logits(phase, seen)[0])

    def open(self, phase: int, logits: Tensor) -> None:
        """Open the gates of a phase whose logits [U] are above the threshold, and fixed ones."""
        assert self.router is not None
        fixed = self.router.fixed[phase].to(logits.device)
        self._gates[phase] = (logits > self.threshold) | fixed

    def through(self, state: State) -> State:
        """Pass a state through all units."""
        stack = self.stack
        for phase in range(stack.phases):
            self.decide(phase, stack.router_input(state, phase))
            for unit in stack.of_phase(phase):
                state = self._unit(unit, state)
        return state

    def _unit(self, unit: int, state: State) -> State:
        stack = self.stack

        def run(before: Values) -> Values:
            return stack.read(unit, stack.run(unit, stack.write(unit, state, before)))

        # Units may leave more than what is read (keys and values); one row passes once.
        return stack.write(unit, state, self.step(unit, stack.read(unit, state), run))

    def step(self, unit: int, before: Values, run: Callable[[Values], Values]) -> Values:
        """Run a unit over what it reads, if its gate is open; flat, run it and name its ends."""
        if not self.flat:
            phase = self.stack.units[unit].phase
            if phase not in self._open:  # read at once: each look at a tensor takes time
                gates = self._gates[phase].tolist()
                self._open[phase] = dict(zip(self.stack.of_phase(phase), gates, strict=True))
            return run(before) if self._open[phase][unit] else before
        inputs = tuple(self._named(x, f"into_{unit}_{n}") for n, x in enumerate(before))
        after = run(before)
        outputs = tuple(self._named(x, f"after_{unit}_{n}") for n, x in enumerate(after))
        self.cuts.append(Cut(unit=unit, inputs=inputs, outputs=outputs))
        return after

    def _named(self, x: Tensor, name: str) -> str:
        if id(x) not in self._names:
            self._names[id(x)] = name
            self.between[name] = x
        return self._names[id(x)]
