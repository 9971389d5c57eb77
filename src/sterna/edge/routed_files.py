"""A routed policy written as graphs: routed and static, in float32 and in int8, from one trace.

Each graph is written flat, quantised flat, and cut (`branches`): so products inside branches are
those of the flat graph, int8 ones too. What training alone needs (graph heads, action heads,
losses) is no part of a graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from sterna.actdistill.adapters.duet import DuetStack
from sterna.actdistill.gates import Costs, fill
from sterna.actdistill.router import PhaseRouter, Router
from sterna.actdistill.stack import Stack
from sterna.edge.branches import prune, route
from sterna.edge.int8 import bits_of, quantise
from sterna.edge.onnx_files import check_installed, examples, write_graph
from sterna.edge.routed import Cut, RoutedGraph, Trace
from sterna.edge.routed_duet import RoutedStepGraph, RoutedTextGraph
from sterna.edge.runtime.folder import ENGINES, ROUTED_ENGINES
from sterna.errors import InputError

Graphs = dict[str, dict[str, str]]
GATES, ROUTER_INPUTS = "gates", ("threshold",)
EVERY = -1e9
"""A threshold below every logit: all units run."""
_USUAL = 0.5
"""Share of decisions from which on a unit belongs to a static model."""


@dataclass(frozen=True, kw_only=True)
class Routed:
    """A routed policy: its stack, its router, the threshold of every budget."""

    stack: Stack
    router: Router
    thresholds: Mapping[float, float]
    """Threshold by budget rho (a share of all units' FLOPs)."""
    rho: float
    """The budget that is used where none is named; one of `thresholds`."""
    open_: Sequence[float] = ()
    """How often each unit runs at `rho`, where it is known: static graphs keep the likeliest."""
    costs: Sequence[float] = ()
    """FLOPs of the units, beside `open_`."""
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the budget."""
        if self.rho not in self.thresholds:
            known = ", ".join(f"{rho:g}" for rho in self.thresholds)
            raise InputError(
                f"rho {self.rho:g}: not among the calibrated budgets ({known}); calibrate for it "
                "(`sterna actdistill calibrate STUDENT --rhos ...`)"
            )

    @property
    def threshold(self) -> float:
        """The threshold of `rho`."""
        return self.thresholds[self.rho]

    def static(self) -> tuple[int, ...]:
        """Return the units of a static model, within the budget, those that run most often first.

        Only units that run in at least half of what was calibrated on: what is hardly ever asked
        for is not what the others expect to meet, even where there is room for it.
        """
        if not self.open_:
            raise InputError(
                "export: how often each unit runs is not known, so none can be chosen for a static "
                "model; calibrate first, or name them (--keep 0 1 3)"
            )
        usual = [n for n, share in enumerate(self.open_) if share >= _USUAL]
        order = sorted(usual, key=lambda n: (-self.open_[n], n))
        fixed = tuple(unit.fixed for unit in self.stack.units)
        return fill(order, Costs(tuple(self.costs), fixed), self.rho)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One graph of a routed policy, ready to be written; without units it is written as it is."""

    graph: nn.Module
    inputs: Mapping[str, tuple[Tensor, Mapping[int, Any]]]
    outputs: Sequence[str]
    units: Sequence[int] = ()
    joined: int | None = None
    """The graph takes its inputs from this one on as a row of any length; None: one by one."""
    cached: bool = False
    """Units leave keys and values, which stay outputs of the graph; gates are an input of it."""
    exact: bool = False
    """Stays float32 in every engine, as routers and angles do."""


def parts_of(routed: Routed) -> dict[str, Part]:
    """Return the graphs of a policy by name, flat."""
    stack, router = routed.stack, routed.router
    if isinstance(stack, DuetStack):
        return _duet_parts(stack, router)
    graph = RoutedGraph(stack, router, flat=True)
    inputs = {
        name: (
            value,
            {n: Dim(f"{name}_{word}") for n, word in graph.form.free.get(name, {}).items()},
        )
        for name, value in graph.form.inputs.items()
    }
    units = range(len(stack.units))
    return {
        "policy": Part(
            graph=graph,
            inputs={"threshold": (torch.zeros(()), {}), **inputs},
            outputs=["actions", GATES],
            units=units,
            joined=1,
        )
    }


def _duet_parts(stack: DuetStack, router: Router) -> dict[str, Part]:
    made = examples(stack.model)
    threshold: dict[str, Any] = {"threshold": (torch.zeros(()), {})}
    _, ids, _ = made["text"]
    text = Part(
        graph=RoutedTextGraph(stack, router, flat=True),
        inputs={**threshold, **ids},
        outputs=["heard", "memory", GATES],
        units=stack.of_phase(0),
    )
    look, seen, outputs = made["panorama"]
    panorama = Part(graph=look, inputs=seen, outputs=outputs)
    _, given, outputs = made["step"]
    heard = cast(PhaseRouter, router.phases[1]).heard(torch.zeros(1, stack.width))
    step = Part(
        graph=RoutedStepGraph(stack, router, flat=True),
        inputs={**threshold, "heard": (heard.detach(), {}), **given},
        outputs=[*outputs, GATES],
        units=stack.of_phase(1),
    )
    return {"text": text, "panorama": panorama, "step": step}


def write_flat(part: Part, path: Path) -> list[Cut]:
    """Write one graph with all of its units; return where they lie."""
    values = [value for value, _ in part.inputs.values()]
    free = tuple(dict(shape) for _, shape in part.inputs.values())
    outputs, cuts = list(part.outputs), []
    if part.units:
        with torch.no_grad():
            part.graph.eval()(*values)
        trace = part.graph.trace
        assert isinstance(trace, Trace)
        outputs += trace.between
        cuts = list(trace.cuts)
    example = (part.graph, {n: (v, dict(s)) for n, (v, s) in part.inputs.items()}, outputs)
    at = part.joined
    write_graph(example, path, shapes=None if at is None else (*free[:at], free[at:]))
    return cuts


def write_routed(
    routed: Routed, folder: Path, *, int8: int, keep: Sequence[int] | None = None
) -> Graphs:
    """Write all graphs of a routed policy; returns their names by engine and part.

    With `keep` (units of the static model) static graphs too, for engines that refuse `If`; `int8`
    as `int8.bits_of` reads it.
    """
    fixed = [unit.fixed for unit in routed.stack.units]
    return write_parts(parts_of(routed), fixed, folder, int8=int8, keep=keep)


def write_parts(
    parts: Mapping[str, Part],
    fixed: Sequence[bool],
    folder: Path,
    *,
    int8: int,
    keep: Sequence[int] | None = None,
    whole: bool = False,
) -> Graphs:
    """Write graphs, flat, then cut; `fixed` says of every unit whether it always runs.

    With `whole` every unit runs for good: no `If`, and no static graphs beside.
    """
    check_installed()
    bits = bits_of(int8)
    kinds = [ENGINES[0], *([ENGINES[1]] if bits else [])]
    static = dict(zip(ENGINES, ROUTED_ENGINES, strict=True))
    graphs: Graphs = {kind: {} for kind in kinds}
    if keep is not None:
        graphs |= {static[kind]: {} for kind in kinds}
    for name, part in parts.items():
        if part.exact:
            write_flat(part, folder / f"{name}.onnx")
            # Nothing is decided where layers are fixed.
            for kind in kinds if GATES in part.outputs else graphs:
                graphs[kind][name] = f"{name}.onnx"
            continue
        flat = {kind: folder / f"{name}.{kind}.flat" for kind in kinds}
        cuts = write_flat(part, flat[ENGINES[0]])
        if part.cached:
            _measure_first(cuts, flat[ENGINES[0]])
        if bits:
            before = cuts[0].inputs if cuts and name == "policy" else ()
            spared = (GATES,) if cuts and not part.cached else ()
            how: dict[str, Any] = {"bits": bits, "spared": spared, "before": before}
            quantise(name, flat[ENGINES[0]], flat[ENGINES[1]], **how)
        for kind in kinds:
            end = "int8.onnx" if kind == ENGINES[1] else "onnx"
            file = folder / f"{name}.{end}"
            graphs[kind][name] = file.name
            if whole:
                _static(part, cuts, flat[kind], file, part.units)
            else:
                _routed(part, cuts, flat[kind], file, fixed)
            if keep is not None:
                file = folder / (f"{name}.static.{end}" if cuts else f"{name}.{end}")
                graphs[static[kind]][name] = file.name
                if cuts:
                    _static(part, cuts, flat[kind], file, keep)
            flat[kind].unlink()
    return graphs


def _measure_first(cuts: Sequence[Cut], file: Path) -> None:
    """Let a graph measure how many tokens came before at its first unit alone, which always runs.

    The exporter takes that length from whichever unit's keys or values it met last; those of a unit
    that is skipped are empty.
    """
    import onnx

    model = onnx.load(file)
    made = {node.output[0]: node for node in model.graph.node if node.op_type == "Identity"}

    def source(name: str) -> str:
        return source(made[name].input[0]) if name in made else name

    past = [source(name) for cut in cuts for name in cut.inputs[1:]]
    for node in model.graph.node:
        if node.op_type == "Shape" and source(node.input[0]) in past:
            node.input[0] = past[0]
    onnx.save(model, file)


def _kept(part: Part, cuts: Sequence[Cut]) -> set[str]:
    """Return the outputs of units that stay outputs of the graph: keys and values."""
    return {name for cut in cuts for name in cut.outputs[1:]} if part.cached else set()


def _routed(part: Part, cuts: Sequence[Cut], flat: Path, file: Path, fixed: Sequence[bool]) -> None:
    import onnx

    model = onnx.load(flat)
    if part.cached:
        given = onnx.helper.make_tensor_value_info(GATES, onnx.TensorProto.BOOL, [len(fixed)])
        model.graph.input.append(given)
    gates = {u: (GATES, n) for n, u in enumerate(part.units) if not fixed[u]}
    onnx.save(route(model, cuts, gates, _kept(part, cuts)), file)


def _static(part: Part, cuts: Sequence[Cut], flat: Path, file: Path, keep: Sequence[int]) -> None:
    import onnx

    onnx.save(prune(onnx.load(flat), cuts, set(keep), {GATES}, _kept(part, cuts)), file)
