"""One protocol over a stack of units that may be skipped, and the gated pass over it.

A *unit* is what is run or skipped as one: a decoder layer, a cross-modal block, a layer of a
language model together with that of its action expert. A `Stack` says how a model is cut into
units; everything else of ActDistill (graph heads, router, losses, both stages, baselines) is
written against it. Gating is residual, h + g (f(h) - h), in training and at run time alike.

Legend: R rows (samples, or decisions), U units of a phase, N tokens, D width, A recent numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from sterna.errors import InputError

State = Any
"""What runs through a stack; its adapter alone looks inside."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What can be skipped as one."""

    name: str
    phase: int = 0
    """Gates of a phase are decided together, when it begins; phases may differ in their rows."""
    stream: str = "main"
    """Units of a stream follow one another over the same tokens; the pull towards the previous
    layer's action and the graph over layers stay within it."""
    acts: bool = True
    """Whether an action can be predicted from its tokens (instruction words alone cannot)."""
    fixed: bool = False
    """Always runs."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Actions are numbers: predictions and truth are float [R, steps, size]."""

    steps: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Actions are classes: predictions are logits [R, slots, classes], truth int64 [R, slots].

    Truth is -100 where there is none.
    """

    slots: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """The action is one of the unit's tokens: logits [R, N] (-inf: no option), truth int64 [R]."""


Kind = Chunk | Choices | Pointer
"""What an action prediction is."""


@dataclass(frozen=True)
class Tokens:
    """Tokens behind a unit: x [R, N, D] and mask bool [R, N]; for `Pointer` options bool [R, N]."""

    x: Tensor
    mask: Tensor
    options: Tensor | None = None


@dataclass(frozen=True)
class RouterInput:
    """What the router sees, before the first unit of a phase, one row a row of that phase.

    `vision` [R, V, D] and `text` [R, L, D] with masks bool (a row may have none of either);
    `recent` [R, A]: the action predictions before this one (zeros at the beginning).
    """

    vision: Tensor
    vision_mask: Tensor
    text: Tensor
    text_mask: Tensor
    recent: Tensor


class Stack(nn.Module, ABC):
    """A model cut into units. Subclasses are the adapters; see `register`.

    `units` in the order of running, `kind` of the action predictions, `width` D of tokens, `recent`
    A of the router's input. The model is a child module, so that a stack is trained, copied and
    moved as one. States are values: `run` and `write` return new ones (caches of keys and values
    may be shared and grow).
    """

    units: tuple[Unit, ...]
    kind: Kind
    width: int
    recent: int

    @abstractmethod
    def prepare(self, batch: Any) -> State:
        """Return the state before the first unit: towers and embeddings, which always run."""

    def disturbed(self, batch: Any) -> Any:
        """Return a batch as a student is shown it while it learns, drawn by torch; here: as it is.

        What is to be said of it stays what it was.
        """
        return batch

    @abstractmethod
    def router_input(self, state: State, phase: int) -> RouterInput:
        """Return what the router sees when a phase begins."""

    @abstractmethod
    def run(self, unit: int, state: State) -> State:
        """Run a unit over all rows of a state."""

    @abstractmethod
    def read(self, unit: int, state: State) -> tuple[Tensor, ...]:
        """Return what the unit changes, tensors [R, ...] (two for a pair of layers)."""

    @abstractmethod
    def write(self, unit: int, state: State, values: tuple[Tensor, ...]) -> State:
        """Return the state with what `read` returns replaced."""

    @abstractmethod
    def select(self, unit: int, state: State, rows: Tensor) -> State:
        """Return some rows (int64 [r]) of a state, for running this unit on them alone."""

    @abstractmethod
    def tokens(self, unit: int, state: State) -> Tokens:
        """Return the tokens behind a unit that has just been run: nodes of the token graph."""

    @abstractmethod
    def finish(self, state: State) -> Any:
        """Return what the model's own head reads (final norm included)."""

    @abstractmethod
    def loss(self, features: Any, batch: Any) -> Tensor:
        """Return the loss that the model itself is trained with, from `finish`'s features."""

    @abstractmethod
    def act(self, state: State, run: Callable[[State], State]) -> Tensor:
        """Return actions of a prepared state.

        `run` passes a state through all units that the gates keep; it may be called again (a
        decoder's next token, a denoising step): gates stay those of the first pass.
        """

    @abstractmethod
    def truth(self, unit: int, batch: Any, state: State) -> Tensor:
        """Return the true actions as `kind` has them, for a unit that acts."""

    @abstractmethod
    def cost(self, unit: int, state: State) -> float:
        """Return the FLOPs (2 a multiply-add; products alone) of the unit on all rows of a state.

        As `FlopCounterMode` counts them with the math attention kernel, within 1%.
        """

    @abstractmethod
    def pruned(self, keep: Sequence[int]) -> Stack:
        """Return a physically smaller copy that holds the units `keep` alone, in their order."""

    @abstractmethod
    def layers(self, unit: int) -> Sequence[nn.Module]:
        """Return the modules that a unit is made of (what is tuned, and what pruning removes)."""

    def towers(self) -> Sequence[nn.Module]:
        """Return the modules that a student never tunes (vision)."""
        return ()

    def fresh(self, state: State) -> State:
        """Return a prepared state to be run again: without what an earlier run left in caches."""
        return state

    def question(self, batch: Any) -> Any:
        """Return a batch as `act` prepares it: without its answers, where it holds them."""
        return batch

    def owners(self, batch: Any, phase: int) -> Tensor | None:
        """Return which sample of the batch each row of a phase belongs to, int64 [R].

        Rows of a sample are in a fixed order. None: one row a sample.
        """
        return None

    @property
    def seen_width(self) -> int:
        """Width of the tokens that the router sees, where it is not `width`."""
        return self.width

    @property
    def phases(self) -> int:
        """Number of phases."""
        return 1 + max(unit.phase for unit in self.units)

    def of_phase(self, phase: int) -> list[int]:
        """Return the numbers of the units of a phase, in order."""
        return [n for n, unit in enumerate(self.units) if unit.phase == phase]

    def before(self, unit: int) -> int | None:
        """Return the unit before this one in its stream."""
        earlier = [n for n in range(unit) if self.units[n].stream == self.units[unit].stream]
        return earlier[-1] if earlier else None


Decide = Callable[[int, RouterInput], Tensor]
"""Takes (phase, what the router sees), returns gates [R, U] of the phase's units in [0, 1]."""


Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes (h [R, ...], f(h) [R, ...], gates [R]) and returns what goes on."""


Meter = Callable[[int, float], None]
"""Takes (unit, FLOPs) of a unit that is about to run."""


def everything(stack: Stack) -> Decide:
    """Return gates that keep every unit: the teacher."""
    return static(stack, range(len(stack.units)))


def static(stack: Stack, keep: Sequence[int]) -> Decide:
    """Return gates that keep the same units of every row; fixed units are always kept."""
    kept = set(keep) | {n for n, unit in enumerate(stack.units) if unit.fixed}
    unknown = sorted(kept - set(range(len(stack.units))))
    if unknown:
        raise InputError(
            f"units: {unknown[0]} is none of the {len(stack.units)} units; count from 0"
        )

    def decide(phase: int, seen: RouterInput) -> Tensor:
        gates = [1.0 if n in kept else 0.0 for n in stack.of_phase(phase)]
        return seen.text.new_tensor(gates).expand(len(seen.text), -1)

    return decide


@dataclass
class Passed:
    """What a gated pass leaves: the last state, gates [R, U] a phase, costs, tokens by unit."""

    state: State
    gates: list[Tensor] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    """FLOPs of every unit, had it run on all its rows."""
    tokens: dict[int, Tokens] = field(default_factory=dict)

    def spent(self, stack: Stack) -> Tensor:
        """Return the share of all units' FLOPs that the gates let run (with gradient)."""
        total: Tensor | float = 0.0
        for phase, gates in enumerate(self.gates):
            costs = [self.costs[n] for n in stack.of_phase(phase)]
            total = (
                total + (gates.float().mean(0) * gates.new_tensor(costs, dtype=torch.float32)).sum()
            )
        assert isinstance(total, Tensor)
        return total / max(sum(self.costs), 1e-9)


def gated(
    stack: Stack,
    state: State,
    decide: Decide,
    *,
    skip: bool,
    keep: bool = False,
    costs: bool = False,
    mix: Mix | None = None,
    phases: Sequence[int] | None = None,
    meter: Meter | None = None,
) -> Passed:
    """Pass a prepared state through the units as the gates say.

    With `skip` gates must be 0 or 1, and a row that a unit is closed for is not computed (a unit
    closed for all rows does not run at all). Without, every unit runs on all rows and its output
    is blended in by h + g (f(h) - h), exact at 0 and 1, so that gates receive gradients. `keep`
    keeps the tokens behind each unit, `costs` what each would cost. `mix` replaces the formula
    (`shrink` is the released one). `phases` passes through some phases alone, for policies whose
    phases come at different times. With `skip`, `meter` is told what each unit cost that ran.
    """
    done = Passed(state)
    for phase in range(stack.phases) if phases is None else phases:
        units = stack.of_phase(phase)
        gates = decide(phase, stack.router_input(done.state, phase))
        if skip:
            _check_fixed(stack, units, gates)
        done.gates.append(gates)
        for place, unit in enumerate(units):
            if costs:
                done.costs.append(stack.cost(unit, done.state))
            if skip:
                done.state = _skipping(stack, unit, done.state, gates[:, place], meter)
            else:
                done.state = _blending(stack, unit, done.state, gates[:, place], mix or blend)
            if keep:
                done.tokens[unit] = stack.tokens(unit, done.state)
    return done


def _check_fixed(stack: Stack, units: Sequence[int], gates: Tensor) -> None:
    for place, unit in enumerate(units):
        if stack.units[unit].fixed and not bool((gates[:, place] > 0.5).all()):
            raise InputError(
                f"units: {stack.units[unit].name} always runs, its gate was closed; open it (a "
                "decoder without its first layer counts its tokens wrong, and says nothing)"
            )


def _blending(stack: Stack, unit: int, state: State, gate: Tensor, mix: Mix) -> State:
    before, ran = stack.read(unit, state), stack.run(unit, state)
    after = stack.read(unit, ran)
    mixed = tuple(mix(a, b, gate) for a, b in zip(before, after, strict=True))
    return stack.write(unit, ran, mixed)


def blend(before: Tensor, after: Tensor, gate: Tensor) -> Tensor:
    """Return h + g (f - h) of [R, ...] and gates [R]; exactly h at 0 and exactly f at 1."""
    weight = gate.to(after.dtype).view(-1, *[1] * (after.ndim - 1))
    return torch.lerp(before, after, weight.expand_as(after))


def shrink(before: Tensor, after: Tensor, gate: Tensor) -> Tensor:
    """Return g f(h), as the released code trains (its whole stream shrinks by every gate)."""
    return after * gate.to(after.dtype).view(-1, *[1] * (after.ndim - 1))


def _skipping(stack: Stack, unit: int, state: State, gate: Tensor, meter: Meter | None) -> State:
    rows = (gate > 0.5).nonzero().squeeze(1)
    if not len(rows):
        return state
    # All rows are not picked by index, so that no bit changes.
    part = state if len(rows) == len(gate) else stack.select(unit, state, rows)
    if meter is not None:
        meter(unit, stack.cost(unit, part))
    ran = stack.run(unit, part)
    if part is state:
        return ran
    whole, some = stack.read(unit, state), stack.read(unit, ran)
    values = tuple(x.index_copy(0, rows, y) for x, y in zip(whole, some, strict=True))
    return stack.write(unit, state, values)


def act(stack: Stack, batch: Any, decide: Decide) -> tuple[Tensor, list[Tensor]]:
    """Return the actions of a batch and the gates [R, U] of each phase; nothing skipped is run.

    Gates are decided in the first pass and held in all later ones (keys and values that later
    tokens attend to are then those of the same units).
    """
    held: dict[int, Tensor] = {}

    def once(phase: int, seen: RouterInput) -> Tensor:
        if phase not in held:
            held[phase] = decide(phase, seen)
        return held[phase]

    actions = stack.act(
        stack.prepare(stack.question(batch)),
        lambda state: gated(stack, state, once, skip=True).state,
    )
    return actions, [held[phase] for phase in sorted(held)]


Factory = Callable[..., Stack]
_FACTORIES: list[tuple[Callable[[Any], bool], Factory]] = []

NEEDS = (
    "a subclass of actdistill.stack.Stack with prepare, router_input, run, read, write, select, "
    "tokens, finish, loss, act, truth, cost, layers and pruned, made known by "
    "register(predicate, factory)"
)
"""What an adapter needs."""


def register(fits: Callable[[Any], bool], factory: Factory) -> None:
    """Make an adapter known: `factory(model, **options)` serves models that `fits`; last wins."""
    _FACTORIES.append((fits, factory))


def stack_of(model: Any, **options: Any) -> Stack:
    """Return a model as a stack; `InputError` says what an adapter needs where there is none."""
    import_module("sterna.actdistill.adapters")  # they register themselves
    for fits, factory in reversed(_FACTORIES):
        if fits(model):
            stack: Stack = factory(model, **options)
            return stack
    raise InputError(f"actdistill: no adapter for {type(model).__name__}; it needs {NEEDS}")
