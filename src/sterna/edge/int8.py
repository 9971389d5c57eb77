"""The int8 twin of an exported graph.

Weights of matrix products get one scale a column; activations are quantised as they come, so
nothing is calibrated. Where rounding an activation to eight bits costs most decisions, what the
rounding took away is rounded to eight bits once more and multiplied as well: x = s q + s' q' with
an error of about s / 500. That takes two integer products for one, still half the time of one in
float32.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sterna.edge.onnx_files import tidy
from sterna.errors import InputError

WORD_ROWS = 1024
"""Tables of at least so many rows are word tables; int8 gives each row its own scale."""
NARROWEST = 16
"""Matrices with a side below this stay float32: they hold next to nothing, and places in metres
and radians do not survive eight bits."""
TWICE = {"text": (), "panorama": ("views", "objects"), "step": ("features",)}
"""Products that depend on these inputs of a graph multiply the rounding error too: the panorama's,
and in a decision those of the map's side, which has few rows."""
ALSO, ONCE = ("visual_attention.att.query.", "local_head."), (".linear1.", ".linear2.")
"""By name: what asks the text does too, on either side, and every head; the panorama's feed-forward
does not, which is most of that graph's work and little of its error."""


def bits_of(int8: int) -> int:
    """Return the bits of weights that are asked for: 0 none, True or 8, or 7; else `InputError`.

    On x86 processors with AVX2 but without VNNI, ONNX Runtime adds pairs of 8-bit products in 16
    bits. Those of weights of 7 bits cannot saturate there.
    """
    found = {0: 0, 1: 8, 7: 7, 8: 8}.get(int8)
    if found is None:
        raise InputError(f"export: weights of int8 graphs have 8 bits or 7, found {int8}")
    return found


def quantise(
    part: str,
    source: Path,
    target: Path,
    *,
    bits: int = 8,
    spared: Iterable[str] = (),
    before: Iterable[str] = (),
) -> None:
    """Write the int8 twin of one graph, its weights in 8 bits or in 7 (see `bits_of`).

    Weights of matrix products get one scale a column, word tables one a row; see `TWICE` for
    activations. What outputs `spared` alone need (a router) stays float32; products that lead to
    `before` multiply the rounding error too.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    _split_gemms(model.graph)
    _narrow_words(model.graph)
    wide = _wide_products(model.graph)
    for output in spared:
        for name in only_for(model.graph, output):
            wide.pop(name, None)
    behind = _products_behind(model.graph, TWICE.get(part, ()))
    behind |= _products_before(model.graph, before)
    twice = {
        name
        for name, weights in wide.items()
        if any(also in weights for also in ALSO)
        or (name in behind and not any(once in weights for once in ONCE))
    }
    names = [*wide, *_multiply_twice(model.graph, twice)]
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it advises on a step that was taken above
    try:
        quantize_dynamic(
            model,
            target,
            per_channel=True,
            reduce_range=bits == 7,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=names,
        )
    finally:
        logging.getLogger().setLevel(level)
    onnx.save(tidy(onnx.load(target)), target)


def _wide_products(graph: Any) -> dict[str, str]:
    """Return the products by a matrix that goes to eight bits, with the matrix's name."""
    shapes = {entry.name: tuple(entry.dims) for entry in graph.initializer}
    return {
        node.name: node.input[1]
        for node in graph.node
        if node.op_type == "MatMul" and min(shapes.get(node.input[1], (0,))) >= NARROWEST
    }


def _products_behind(graph: Any, inputs: Iterable[str]) -> set[str]:
    """Return the products that depend on some inputs of a graph (its nodes are in order)."""
    known, products = set(inputs), set()
    for node in graph.node:
        if known.intersection(node.input):
            known.update(node.output)
            if node.op_type == "MatMul":
                products.add(node.name)
    return products


def _products_before(graph: Any, names: Iterable[str]) -> set[str]:
    """Return the products that some values depend on."""
    wanted, products = set(names), set()
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            if node.op_type == "MatMul":
                products.add(node.name)
    return products


def only_for(graph: Any, output: str) -> set[str]:
    """Return the names of the nodes that one output alone needs."""
    others = {entry.name for entry in graph.output} - {output}
    found, mine = set(), {output}
    for node in reversed(graph.node):
        made = set(node.output)
        if made & others:
            others.update(node.input)
        elif made & mine:
            mine.update(node.input)
            found.add(node.name)
    return found


def _multiply_twice(graph: Any, products: set[str]) -> list[str]:
    """Let products x W become x W + (x - rounded x) W; returns the names of the second ones.

    `quantize_dynamic` then rounds both left sides, each with a scale of its own, and W once.
    """
    from onnx import helper

    nodes: list[Any] = []
    lost: dict[str, str] = {}
    waiting: dict[str, str] = {}  # what is still to be added, by the output it belongs to
    biased = _biased(graph)
    for node in graph.node:
        if node.name in products:
            x, weights = node.input
            if x not in lost:
                lost[x] = f"{x}_lost"
                nodes += _what_is_lost(x, lost[x])
            second, again = f"{node.output[0]}_of_lost", _second(node.name)
            nodes.append(helper.make_node("MatMul", [lost[x], weights], [second], again))
            waiting[biased.get(node.output[0], node.output[0])] = second
        nodes.append(node)
        if (out := node.output[0]) in waiting:  # behind the bias, which the product takes in
            node.output[0] = f"{out}_of_rounded"
            both = [node.output[0], waiting.pop(out)]
            nodes.append(helper.make_node("Add", both, [out], f"{out}_of_both"))
    del graph.node[:]
    graph.node.extend(nodes)
    return [_second(name) for name in sorted(products)]


def _biased(graph: Any) -> dict[str, str]:
    """Return what becomes of an output that a constant alone is added to."""
    constants = {entry.name for entry in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    return {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type == "Add" and node.input[1] in constants and readers[node.input[0]] == 1
    }


def _what_is_lost(x: str, lost: str) -> list[Any]:
    from onnx import helper

    rounded = [f"{x}_coarse{name}" for name in ("", "_step", "_zero")]
    back = f"{x}_coarse_back"
    return [
        helper.make_node("DynamicQuantizeLinear", [x], rounded, rounded[0]),
        helper.make_node("DequantizeLinear", rounded, [back], back),
        helper.make_node("Sub", [x, back], [lost], lost),
    ]


def _second(product: str) -> str:
    return f"{product}_again"


def _split_gemms(graph: Any) -> None:
    """Turn every Gemm by a matrix into MatMul, weights turned, and Add if it has a bias."""
    from onnx import helper, numpy_helper

    weights = {entry.name: entry for entry in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        flags = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = flags.get("alpha", 1.0) == flags.get("beta", 1.0) == 1.0
        fits = node.op_type == "Gemm" and plain and not flags.get("transA")
        if not fits or node.input[1] not in weights:
            nodes.append(node)
            continue
        a, b, *bias = node.input
        if flags.get("transB"):
            turned = np.ascontiguousarray(numpy_helper.to_array(weights[b]).T)
            name = f"{b}_turned"
            if name not in weights:
                weights[name] = numpy_helper.from_array(turned, name)
            b = name
        product = f"{node.output[0]}_product" if bias else node.output[0]
        nodes.append(helper.make_node("MatMul", [a, b], [product], f"{node.name}_product"))
        if bias:
            nodes.append(helper.make_node("Add", [product, *bias], list(node.output), node.name))
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
