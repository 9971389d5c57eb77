"""Graphs as ONNX files: written by torch, folded by ONNX Runtime.

Needs the extra ``sterna[export]``. Every size but the model's own stays free: words, views,
objects, candidates, map nodes.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from sterna.edge.graphs import PanoramaGraph, StepGraph, TextGraph
from sterna.errors import InputError
from sterna.models.duet import DUET

OPSET = 20
"""The first with GELU as one operator; read by ONNX Runtime 1.17 and OpenVINO 2024.1, and newer."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")

Example = tuple[nn.Module, dict[str, tuple[Tensor, dict[int, Any]]], list[str]]
"""A graph, its inputs by name with their free dimensions, the names of its outputs."""


def check_installed() -> None:
    """Raise `InputError` unless what writing graphs needs is installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"export needs {', '.join(missing)}, not installed; pip install 'sterna[export]'"
        )


def write_graph(example: Example, path: Path, *, shapes: Any = None) -> None:
    """Write one graph with free dimensions, constants folded.

    `shapes` are the free dimensions as torch wants them, where inputs are not one an argument.
    """
    import onnx

    graph, inputs, outputs = example
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph.eval(),
            tuple(value for value, _ in inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=shapes or tuple(free for _, free in inputs.values()),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    raw = path.with_suffix(".raw")
    program.save(str(raw), external_data=False)
    _fold(raw, path)
    raw.unlink()
    onnx.save(tidy(onnx.load(path)), path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the exporter says about itself; its errors are exceptions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _fold(source: Path, target: Path) -> None:
    """Let ONNX Runtime compute once what depends on weights alone (joined and turned matrices)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def tidy(model: Any) -> Any:
    """Drop what the optimiser leaves behind: unused operator sets, inner shapes, notes."""
    used = {node.domain for node in model.graph.node}
    for entry in [e for e in model.opset_import if e.domain not in used]:
        model.opset_import.remove(entry)
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return model


def examples(model: DUET) -> dict[str, Example]:
    """Return the three graphs of a model with example inputs; sizes differ and exceed 1."""
    config = model.config
    words, views, things, candidates, slots = 7, 9, 5, 3, 6
    texts, looks, decisions = TextGraph(model), PanoramaGraph(model), StepGraph(model)
    ids = torch.arange(words) % config.vocab_size
    seen = {
        "views": (torch.zeros(views, config.feature_size), {0: Dim("views")}),
        "locations": (torch.zeros(views, 7), {0: Dim("views")}),
        "kinds": (torch.zeros(views, dtype=torch.int64), {0: Dim("views")}),
    }
    heads = ["logits"]
    if config.object_size is not None:
        free = {0: Dim("objects")}
        seen["objects"] = (torch.zeros(things, config.object_size), free)
        seen["object_locations"] = (torch.zeros(things, 7), free)
        heads = ["logits", "near_logits"]
    visited = torch.tensor([False, True, True, False, False, True])
    width, layers = config.hidden_size, config.cross_layers
    memory = torch.zeros(2, layers, 2, config.heads, words, config.head_size)
    free = {0: Dim("slots")}
    state = {
        "memory": (memory, {4: Dim("words")}),
        "panorama": (torch.zeros(views, width), {0: Dim("tokens")}),
        "local_positions": (torch.zeros(1 + candidates, 14), {0: Dim.DYNAMIC}),
        "candidates": (torch.tensor([3, 1, 5]), {0: Dim.DYNAMIC}),
        "near": (torch.arange(1 + candidates + things), {0: Dim("near")}),
        "features": (torch.zeros(slots, width), free),
        "steps": (torch.zeros(slots, dtype=torch.int64), free),
        "positions": (torch.zeros(slots, 7), free),
        "distances": (torch.zeros(slots, slots), {0: Dim("slots"), 1: Dim("slots")}),
        "visited": (visited, free),
        "choices": (torch.tensor([0, 3, 4]), {0: Dim("choices")}),
    }
    return {
        "text": (texts, {"ids": (ids, {0: Dim("words")})}, ["states", "memory"]),
        "panorama": (looks, seen, ["tokens", "mean"]),
        "step": (decisions, state, heads),
    }
