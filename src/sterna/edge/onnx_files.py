"""Graphs as ONNX files: written by torch, folded and quantised by ONNX Runtime.

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

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from sterna.edge.graphs import PanoramaGraph, StepGraph, TextGraph
from sterna.errors import InputError
from sterna.models.duet import DUET

OPSET = 20
"""The first with GELU as one operator; read by ONNX Runtime 1.17 and OpenVINO 2024.1, and newer."""
WORD_ROWS = 1024
"""Tables of at least so many rows are word tables; int8 gives each row its own scale."""
NARROWEST = 16
"""Matrices with a side below this stay float32: they hold next to nothing, and places in metres
and radians do not survive eight bits."""
KEPT = ("_head.", "fusion.", "visual_attention.att.query.")
"""Matrices of the step graph that stay float32 by name: the heads, and what asks the text. They are
a tenth of its work and hold two fifths of the error that eight bits bring into a decision."""
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


def write_graph(example: Example, path: Path) -> None:
    """Write one graph with free dimensions, constants folded."""
    import onnx

    graph, inputs, outputs = example
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph.eval(),
            tuple(value for value, _ in inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple(free for _, free in inputs.values()),
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
    onnx.save(_tidy(onnx.load(path)), path)


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


def _tidy(model: Any) -> Any:
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


def quantise(source: Path, target: Path) -> None:
    """Write the int8 twin of a graph.

    Weights of matrix products get one scale a column, activations are quantised as they come (no
    calibration); a word table gets one scale a row.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    _split_gemms(model.graph)
    _narrow_words(model.graph)
    shapes = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    wide = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul"
        and min(shapes.get(node.input[1], (0,))) >= NARROWEST
        and not any(kept in node.input[1] for kept in KEPT)
    ]
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it advises on a step that was taken above
    try:
        quantize_dynamic(
            model,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=wide,
        )
    finally:
        logging.getLogger().setLevel(level)
    onnx.save(_tidy(onnx.load(target)), target)


def _split_gemms(graph: Any) -> None:
    """Turn every product with bias (Gemm, B transposed) into MatMul and Add, weights turned."""
    from onnx import helper, numpy_helper

    weights = {entry.name: entry for entry in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        flags = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = flags.get("alpha", 1.0) == flags.get("beta", 1.0) == 1.0
        fits = node.op_type == "Gemm" and plain and not flags.get("transA")
        if not fits or node.input[1] not in weights or len(node.input) != 3:
            nodes.append(node)
            continue
        a, b, bias = node.input
        if flags.get("transB"):
            turned = np.ascontiguousarray(numpy_helper.to_array(weights[b]).T)
            name = f"{b}_turned"
            if name not in weights:
                weights[name] = numpy_helper.from_array(turned, name)
            b = name
        product = f"{node.output[0]}_product"
        nodes.append(helper.make_node("MatMul", [a, b], [product], f"{node.name}_product"))
        nodes.append(helper.make_node("Add", [product, bias], list(node.output), node.name))
    _replace(graph, nodes, weights)


def _narrow_words(graph: Any) -> None:
    """Keep word tables in int8 with one float32 scale a row: w = q * max|w| / 127."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {entry.name: entry for entry in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        table = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.dims[0] < WORD_ROWS:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scale = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12).astype(np.float32) / 127
        narrow = np.rint(values / scale).astype(np.int8)
        names = [f"{table.name}_{part}" for part in ("int8", "scale", "picked", "cast", "factor")]
        weights[names[0]] = numpy_helper.from_array(narrow, names[0])
        weights[names[1]] = numpy_helper.from_array(scale.astype(np.float32), names[1])
        ids = node.input[1]
        nodes += [
            helper.make_node("Gather", [names[0], ids], [names[2]], names[2], axis=0),
            helper.make_node("Cast", [names[2]], [names[3]], names[3], to=TensorProto.FLOAT),
            helper.make_node("Gather", [names[1], ids], [names[4]], names[4], axis=0),
            helper.make_node("Mul", [names[3], names[4]], list(node.output), node.name),
        ]
    _replace(graph, nodes, weights)


def _replace(graph: Any, nodes: list[Any], weights: dict[str, Any]) -> None:
    used = {name for node in nodes for name in node.input}
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [entry for name, entry in weights.items() if name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


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
