"""Stage 2: the student learns to do with fewer units what its teacher does with all.

Total loss = task + distillation terms (`losses`) + budget. The student is the teacher's own network
with routed units, or a physically smaller one whose units follow mapped units of the teacher.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from sterna.actdistill.gates import (
    annealed,
    balance_loss,
    budget_loss,
    depth_rates,
    hard,
    logistic_noise,
    stochastic_depth,
    top,
)
from sterna.actdistill.graph import GraphHeads, Signals
from sterna.actdistill.losses import LossConfig, Targets, agreement, distillation
from sterna.actdistill.probe import Teacher, truths_of
from sterna.actdistill.router import Router
from sterna.actdistill.stack import Decide, Pointer, RouterInput, Stack, gated, shrink, static
from sterna.actdistill.stages import Drawn
from sterna.actdistill.targets import TargetStore
from sterna.errors import InputError
from sterna.train.average import follow
from sterna.train.task import TaskOutput


@dataclass(frozen=True, kw_only=True)
class RouteConfig:
    """How gates learn."""

    gate: Literal["concat", "topk", "fixed"] = "concat"
    """concat: a threshold on each unit's logit, as in the paper; topk: each row's best units within
    the budget; fixed: the same units always (`keep`), no router."""
    rho: float = 0.5
    """Budget: share of all units' FLOPs."""
    lowest: float | None = None
    """With it every batch draws its own budget between this and 1 and opens its best (row, unit)
    pairs: one model for many budgets, without a budget loss."""
    keep: tuple[int, ...] = ()
    """Units of a fixed gate."""
    select: Literal["keep", "first-k", "cosine", "greedy", "random-k"] = "keep"
    """How a fixed gate's units are found: named in `keep`, or the teacher's that fit `rho` in an
    order found on held-out samples."""
    warm_up: float = 0.15
    """First share of the run: units are dropped at random (stochastic depth), nothing is routed."""
    drop: float = 0.5
    """Largest rate of the warm-up, at the deepest unit."""
    anneal: float = 0.5
    """Share of the run by which the budget has come down from 1 to `rho`."""
    noise: tuple[float, float] = (2.0, 0.5)
    """Scale of the logistic noise on logits, at the beginning and at the end."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.gate not in ("concat", "topk", "fixed"):
            raise InputError(f"route: gate must be concat, topk or fixed, found {self.gate!r}")
        lowest = 1.0 if self.lowest is None else self.lowest
        if not (0 < self.rho <= 1 and 0 < lowest <= 1):
            raise InputError(
                f"route: budgets must be in (0, 1], found {self.rho} and {self.lowest}"
            )
        shares = (self.warm_up, self.drop, self.anneal)
        if not all(0 <= share <= 1 for share in shares) or min(self.noise) < 0:
            raise InputError(
                "route: warm_up, drop and anneal must be in [0, 1] and noise 0 or more, found "
                f"{shares} and {self.noise}"
            )
        if self.gate == "fixed" and bool(self.keep) != (self.select == "keep"):
            raise InputError(
                "route: a fixed gate needs either the units to keep (route.keep) or a way to find "
                "them (route.select)"
            )


class Source(Protocol):
    """Where targets come from."""

    def targets(self, drawn: Drawn, widths: dict[int, int]) -> Signals:
        """Return what the teacher's units said about a batch."""


@dataclass(frozen=True)
class Stored:
    """Targets from disk."""

    store: TargetStore
    teacher: Stack

    def targets(self, drawn: Drawn, widths: dict[int, int]) -> Signals:
        """Read them by sample."""
        return self.store.read(self.teacher, drawn.ids, drawn.batch, widths)


@dataclass(frozen=True)
class Live:
    """Targets from the teacher itself, for samples that no one has seen before."""

    teacher: Teacher

    def targets(self, drawn: Drawn, widths: dict[int, int]) -> Signals:
        """Run the teacher."""
        return self.teacher.signals(drawn.batch)


def stream_map(teacher: Stack, student: Stack) -> tuple[int, ...]:
    """Return the teacher's unit that each unit of a smaller student follows.

    Within a stream unit m of n (from 1) follows floor(m N / n) of N, as MiniVLN's block map; the
    last follows the last. `InputError` where the student has streams or depth that its teacher
    lacks.
    """
    theirs: dict[str, list[int]] = {}
    mine: dict[str, list[int]] = {}
    for stack, found in ((teacher, theirs), (student, mine)):
        for number, unit in enumerate(stack.units):
            found.setdefault(unit.stream, []).append(number)
    out = []
    for number, unit in enumerate(student.units):
        stream = unit.stream
        deep, shallow = theirs.get(stream, []), mine[stream]
        if len(deep) < len(shallow):
            raise InputError(
                f"actdistill: the student has {len(shallow)} units in stream {stream!r}, its "
                f"teacher {len(deep)}; give it at most as many"
            )
        place = shallow.index(number) + 1
        out.append(deep[place * len(deep) // len(shallow) - 1])
    return tuple(out)


def inherit_heads(student: GraphHeads, teacher: GraphHeads, units: Sequence[int]) -> None:
    """Begin the student's heads as the probe's: unit m takes those of the teacher's `units[m]`.

    Graphs over layers are taken over where both have equally many. `InputError` for heads of
    another shape: the alignment target is what the probe's heads say.
    """
    try:
        for mine, theirs in enumerate(units):
            student.graphs[mine].load_state_dict(teacher.graphs[theirs].state_dict())
            if str(mine) in student.heads:
                student.heads[str(mine)].load_state_dict(teacher.heads[str(theirs)].state_dict())
        for name, graph in student.evolution.items():
            found = teacher.evolution[name].state_dict() if name in teacher.evolution else {}
            own = graph.state_dict()
            for key, value in found.items():
                if own[key].shape == value.shape:
                    own[key] = value
            graph.load_state_dict(own)
    except (RuntimeError, KeyError) as error:
        raise InputError(
            "actdistill: the student's heads do not have the shapes of the probe's "
            f"({str(error).splitlines()[0][:80]}); use the same graph settings and width"
        ) from error


class DistillTask(nn.Module):
    """Trains a student (and its router and heads) beside a teacher's targets."""

    def __init__(
        self,
        stack: Stack,
        heads: GraphHeads,
        source: Source,
        loss: LossConfig,
        route: RouteConfig,
        *,
        router: Router | None = None,
        units: Sequence[int] | None = None,
        frozen_heads: bool = False,
        costs: Sequence[float] | None = None,
        average: float = 0.0,
    ) -> None:
        """Put a student beside its targets; `units` are the teacher's that its units follow.

        `costs` are FLOPs of the student's units, for gates that fit a budget by themselves (topk,
        and a budget a batch); None: all alike. `average` is the decay of an exponential mean of
        student and router, which is then what `learnt` returns; 0: there is none.
        """
        super().__init__()
        if route.gate != "fixed" and router is None:
            raise InputError(f"actdistill: gate {route.gate} needs a router")
        if loss.variant == "paper" and route.gate != "concat":
            raise InputError("actdistill: variant paper has gate concat alone")
        self.stack, self.heads, self.router = stack, heads, router
        self.loss, self.route = loss, route
        self.units = tuple(units or range(len(stack.units)))
        self._source = [source]
        self._prices = tuple(costs or [1.0] * len(stack.units))
        if frozen_heads:
            heads.requires_grad_(False)
        self.average, self.mean = average, None
        if average:
            kept = {"stack": stack} | ({} if router is None else {"router": router})
            self.mean = copy.deepcopy(nn.ModuleDict(kept)).requires_grad_(False)

    def forward(self, drawn: Drawn) -> TaskOutput:
        """Return the total loss; `spent` is the share of FLOPs that the gates let run."""
        stack, paper = self.stack, self.loss.variant == "paper"
        rho = annealed(self.route.rho, drawn.done, self.route.anneal)
        batch = stack.disturbed(drawn.batch) if self.training else drawn.batch
        passed = gated(
            stack,
            stack.prepare(batch),
            self.gates(drawn, rho),
            skip=False,
            keep=True,
            costs=True,
            mix=shrink if paper else None,
        )
        signals: Signals = self.heads(passed.tokens)
        task = stack.loss(stack.finish(passed.state), drawn.batch)
        targets = self._targets(drawn, signals, passed.state)
        follow, terms = distillation(stack, self.heads.kind, signals, targets, self.loss)
        total = self.loss.task * task + follow
        spent = passed.spent(stack)
        if paper:
            balance = torch.stack([balance_loss(g) for g in passed.gates]).mean()
            total = total + self.loss.balance * balance
        elif self._pays(drawn):
            total = total + self.loss.budget * budget_loss(spent, rho)
        deepest = max(signals.action)
        metrics = {
            "task": float(task.detach()),
            "spent": float(spent.detach()),
            "agree": agreement(
                self.heads.kind, signals.action[deepest].detach(), targets.truth[deepest]
            ),
            "rows": float(len(drawn.ids)),
            **{name: float(value.detach()) for name, value in terms.items()},
        }
        return TaskOutput(total, metrics)

    @property
    def learnt(self) -> tuple[Stack, Router | None]:
        """Student and router as they are to be used: their mean, where there is one."""
        if self.mean is None:
            return self.stack, self.router
        parts: dict[str, Any] = dict(self.mean.items())
        return parts["stack"], parts.get("router")

    def follow(self, iteration: int) -> None:
        """Draw the mean towards the weights after an iteration."""
        if self.mean is not None:
            own = list(self.stack.parameters())
            own += [] if self.router is None else list(self.router.parameters())
            follow(self.mean.parameters(), own, self.average, iteration)

    def _pays(self, drawn: Drawn) -> bool:
        route = self.route
        return route.gate == "concat" and route.lowest is None and drawn.done >= route.warm_up

    def _targets(self, drawn: Drawn, signals: Signals, state: Any) -> Targets:
        device = next(self.heads.parameters()).device
        widths = {}
        if isinstance(self.heads.kind, Pointer):
            widths = {self.units[n]: a.shape[-1] for n, a in signals.action.items()}
        said = self._source[0].targets(drawn, widths)
        mapped = Signals(
            {n: said.semantic[u].to(device) for n, u in enumerate(self.units)},
            {n: said.action[self.units[n]].to(device) for n in signals.action},
        )
        truth = truths_of(self.stack, drawn.batch, state, signals, self.heads.kind)
        return Targets(mapped, truth)

    # Gates.

    def gates(self, drawn: Drawn, rho: float) -> Decide:
        """Return the gates of training at this point of the run."""
        route = self.route
        if route.gate == "fixed":
            return static(self.stack, route.keep)
        if self.loss.variant == "paper":
            return self._soft
        if drawn.done < route.warm_up:
            return self._dropped(drawn.done / max(route.warm_up, 1e-9))
        first, last = route.noise
        scale = first + (last - first) * drawn.done
        if route.lowest is not None:
            rho = route.lowest + (1 - route.lowest) * float(torch.rand(()))

        def decide(phase: int, seen: RouterInput) -> Tensor:
            assert self.router is not None
            logits = self.router.logits(phase, seen)
            noise = logistic_noise(logits, scale)
            if route.gate == "topk":
                made = top(logits + noise, self._costs(phase), rho, self._fixed(phase))
            else:
                level = self._level(logits + noise, phase, rho) if route.lowest else 0.0
                made = hard(logits, level, noise=noise)
            return self.router.held(phase, made)

        return decide

    def _soft(self, phase: int, seen: RouterInput) -> Tensor:
        """Return the released gates of training: sigmoids, of fixed units too."""
        assert self.router is not None
        return self.router.logits(phase, seen).sigmoid()

    def _dropped(self, done: float) -> Decide:
        def decide(phase: int, seen: RouterInput) -> Tensor:
            assert self.router is not None
            rates = depth_rates(len(self.stack.of_phase(phase)), self.route.drop, done)
            drawn = stochastic_depth(len(seen.text), rates, seen.text)
            return self.router.held(phase, drawn)

        return decide

    def _fixed(self, phase: int) -> list[bool]:
        return [self.stack.units[n].fixed for n in self.stack.of_phase(phase)]

    def _costs(self, phase: int) -> list[float]:
        return [self._prices[n] for n in self.stack.of_phase(phase)]

    @torch.no_grad()
    def _level(self, logits: Tensor, phase: int, rho: float) -> float:
        """Return the threshold at which a phase of a batch costs about `rho` of all its units."""
        costs, fixed = self._costs(phase), self._fixed(phase)
        free = [n for n, always in enumerate(fixed) if not always]
        if not free:
            return 0.0
        room = rho * sum(costs) - sum(c for c, f in zip(costs, fixed, strict=True) if f)
        price = logits.new_tensor([costs[n] for n in free]) / len(logits)
        values, order = logits[:, free].flatten().sort(descending=True)
        spent = price.expand(len(logits), -1).flatten()[order].cumsum(0)
        open_ = int((spent <= room + 1e-9 * sum(costs)).sum())
        if open_ == 0:
            return float(values[0]) + 1.0
        if open_ == len(values):
            return float(values[-1]) - 1.0
        return float((values[open_ - 1] + values[open_]) / 2)
