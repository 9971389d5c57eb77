"""The exported graphs run by torch, behind the same navigator as the exports.

So engines differ in who computes the graphs, and in nothing else: laying out tokens, keeping the
map and reading its distances is the same code in every arm.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx.experimental import _config as shapes

from sterna.actdistill.adapters.duet import DuetStack
from sterna.actdistill.router import Router
from sterna.edge.bench.episode import directions_of
from sterna.edge.graphs import PanoramaGraph, StepGraph, TextGraph
from sterna.edge.routed_duet import RoutedStepGraph, RoutedTextGraph
from sterna.edge.runtime import Engine, Manifest
from sterna.errors import InputError
from sterna.models.duet import DUET


class TorchEngine(Engine):
    """A DUET model as an engine of the runtime; instructions are given as word ids."""

    def __init__(
        self,
        model: DUET,
        *,
        threads: int = 1,
        compiled: bool = False,
        routed: tuple[Router, float] | None = None,
    ) -> None:
        """Take a model in eval mode; `compiled` runs its graphs through torch.compile.

        `routed` is its router with a threshold: skipped units are not run (and not compiled). The
        number of threads holds for the whole process.
        """
        if threads < 1:
            raise InputError(f"threads must be at least 1, found {threads}")
        torch.set_num_threads(threads)
        if compiled:  # sizes that are equal by chance at the first step are not one size for ever
            shapes.use_duck_shape = False
        self.name, self.threads = "torch-compile" if compiled else "torch", threads
        self.manifest = _manifest(model)
        text: nn.Module = TextGraph(model)
        step: nn.Module = StepGraph(model)
        self.threshold = None
        if routed is not None:
            if compiled:
                raise InputError("torch-compile: a routed policy runs other layers each time")
            router, self.threshold = routed
            stack = DuetStack(model)
            text, step = RoutedTextGraph(stack, router), RoutedStepGraph(stack, router)
        first = "states" if routed is None else "heard"
        self._text = _Session(text, [first, "memory"], compiled)
        self._panorama = _Session(PanoramaGraph(model), None, compiled)
        self._step = _Session(step, None, compiled)

    def words(self, instruction: str) -> list[int]:
        """Refuse: a model alone knows no words."""
        raise InputError("a model in torch has no tokenizer here; give word ids")


class _Session:
    """A graph that is run as ONNX Runtime runs one: arrays by name in, arrays out."""

    def __init__(self, graph: nn.Module, outputs: list[str] | None, compiled: bool) -> None:
        graph = graph.eval()
        self._outputs = outputs
        self._names = list(inspect.signature(graph.forward).parameters)
        self._run = torch.compile(graph, dynamic=True, fullgraph=True) if compiled else graph

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self._names]

    def run(self, wanted: Sequence[str] | None, feed: dict[str, NDArray[Any]]) -> list[Any]:
        with torch.inference_mode():
            found = self._run(**{name: torch.from_numpy(value) for name, value in feed.items()})
        if wanted is not None and self._outputs is not None:
            found = [found[self._outputs.index(name)] for name in wanted]
        return [value.numpy() for value in found]


def _manifest(model: DUET) -> Manifest:
    headings, elevations = directions_of(36)
    return Manifest(
        folder=Path(),
        sizes=asdict(model.config),
        graphs={},
        files={},
        tokenizer="",
        headings=tuple(headings.tolist()),
        elevations=tuple(elevations.tolist()),
        max_words=model.config.max_positions,
        max_steps=model.config.max_steps - 1,
        about={},
    )
