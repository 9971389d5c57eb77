"""Units of a written graph put into branches, or left out of it.

A flat graph runs every unit and names what lies between them (`routed.Cut`). A unit is everything
that only its outputs need, up to its inputs; what others need as well stays outside. Because
weights were quantised in the flat graph, the branches hold int8 products without further ado.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sterna.edge.routed import Cut
from sterna.errors import InputError


def route(
    model: Any,
    cuts: Sequence[Cut],
    gates: Mapping[int, tuple[str, int]],
    kept: Collection[str] = (),
) -> Any:
    """Put units into `If`s, in place: run where the gate is open, else hand on what came in.

    `gates` names for each unit that may be skipped a bool vector and the place in it. Returns the
    model. What lies between units is an output no longer, but for `kept`.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    _drop_outputs(graph, cuts, kept)
    for cut in cuts:
        if cut.unit not in gates:
            continue
        inside = _inside(graph, cut)
        vector, place = gates[cut.unit]
        name = f"unit_{cut.unit}"
        index = numpy_helper.from_array(np.array(place, np.int64), f"{name}_place")
        graph.initializer.append(index)
        pick = helper.make_node("Gather", [vector, index.name], [f"{name}_open"], f"{name}_open")
        then = _then(graph, inside, cut, name)
        otherwise = helper.make_graph(
            [
                helper.make_node("Identity", [a], [f"{name}_kept_{n}"], f"{name}_kept_{n}")
                for n, a in enumerate(cut.inputs)
            ],
            f"{name}_skipped",
            [],
            [_untyped(f"{name}_kept_{n}") for n in range(len(cut.inputs))],
        )
        branch = helper.make_node(
            "If", [pick.output[0]], list(cut.outputs), name, then_branch=then, else_branch=otherwise
        )
        rest = [node for node in graph.node if _key(node) not in inside]
        _set_nodes(graph, sorted_nodes([*rest, pick, branch], _given(graph)))
    return model


def prune(
    model: Any,
    cuts: Sequence[Cut],
    keep: Collection[int],
    drop: Collection[str],
    kept: Collection[str] = (),
) -> Any:
    """Leave units out for good, in place: static, without `If`; outputs `drop` go too.

    What nothing needs any more (the router, weights of units left out) goes as well. What lies
    between units is an output no longer, but for `kept` of units that stay.
    """
    graph = model.graph
    left_out = {name for cut in cuts if cut.unit not in keep for name in cut.outputs}
    _drop_outputs(graph, cuts, set(kept) - left_out)
    outputs = [entry for entry in graph.output if entry.name not in drop]
    del graph.output[:]
    graph.output.extend(outputs)
    renamed: dict[str, str] = {}
    for cut in cuts:
        if cut.unit not in keep:
            for old, new in zip(cut.outputs, cut.inputs, strict=True):
                renamed[old] = renamed.get(new, new)
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    for entry in graph.output:
        if entry.name in renamed:
            raise InputError(f"export: output {entry.name} is that of a unit left out")
    _sweep(graph)
    return model


def _drop_outputs(graph: Any, cuts: Sequence[Cut], kept: Collection[str]) -> None:
    between = {name for cut in cuts for name in (*cut.inputs, *cut.outputs)} - set(kept)
    stay = [entry for entry in graph.output if entry.name not in between]
    for entry in stay:
        if entry.name in kept:  # of any length, and none where the unit was skipped
            entry.type.tensor_type.ClearField("shape")
    del graph.output[:]
    graph.output.extend(stay)


def _key(node: Any) -> str:
    """Return what tells a node from others: every name is made once."""
    return str(node.output[0])


def _inside(graph: Any, cut: Cut) -> set[str]:
    """Return the nodes (`_key`) that the outputs of a unit alone need, up to its inputs."""
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in needed(node):
            readers.setdefault(name, []).append(_key(node))
    visible = {entry.name for entry in graph.output}
    border = set(cut.inputs)
    inside: set[str] = set()
    # Nodes are in order, so all readers of a node are met before it, backwards.
    for node in reversed(graph.node):
        made = [name for name in node.output if name]
        if border.intersection(made):
            continue
        ends = set(made) & set(cut.outputs)
        alone = all(
            name not in visible and all(reader in inside for reader in readers.get(name, ()))
            for name in made
            if name not in ends
        )
        used = any(readers.get(name) for name in made)
        if alone and (ends or used):
            inside.add(_key(node))
    return inside


def _then(graph: Any, inside: set[str], cut: Cut, name: str) -> Any:
    """Return the branch that runs a unit, with the weights that it alone needs."""
    from onnx import helper

    nodes = [node for node in graph.node if _key(node) in inside]
    local = {out: f"{name}_ran_{n}" for n, out in enumerate(cut.outputs)}
    copies = []
    for node in nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        for names in (copy.input, copy.output):
            for place, value in enumerate(names):
                names[place] = local.get(value, value)
        copies.append(copy)
    outside = {n for node in graph.node if _key(node) not in inside for n in needed(node)}
    outside |= {entry.name for entry in graph.output}
    wanted = {n for node in nodes for n in needed(node)} - outside
    weights = [entry for entry in graph.initializer if entry.name in wanted]
    branch = helper.make_graph(
        copies, f"{name}_run", [], [_untyped(local[o]) for o in cut.outputs], weights
    )
    kept = [entry for entry in graph.initializer if entry.name not in wanted]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return branch


def _untyped(name: str) -> Any:
    """Return an output whose type the reader infers (shapes of branches may be open)."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def needed(node: Any) -> set[str]:
    """Return the names that a node reads, those of its branches from outside included."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        if attribute.HasField("g"):
            inner, made = attribute.g, {entry.name for entry in attribute.g.initializer}
            for part in inner.node:
                found |= needed(part) - made
                made.update(part.output)
            found |= {entry.name for entry in inner.output} - made
    return found


def sorted_nodes(nodes: Sequence[Any], given: Iterable[str]) -> list[Any]:
    """Return nodes in an order in which each follows what it reads."""
    known, waiting, out = set(given), list(nodes), []
    while waiting:
        ready = [node for node in waiting if needed(node) <= known]
        if not ready:
            raise AssertionError("a graph with a cycle")
        chosen = {_key(node) for node in ready}
        out += ready
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if _key(node) not in chosen]
    return out


def _given(graph: Any) -> set[str]:
    return {entry.name for entry in (*graph.input, *graph.initializer)} | {""}


def _set_nodes(graph: Any, nodes: Sequence[Any]) -> None:
    copies = []
    for node in nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def _sweep(graph: Any) -> None:
    """Remove nodes, weights and inputs that no output needs."""
    wanted = {entry.name for entry in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted |= needed(node)
            kept.append(node)
    _set_nodes(graph, kept[::-1])
    for entries in (graph.initializer, graph.input):
        left = [entry for entry in entries if entry.name in wanted]
        del entries[:]
        entries.extend(left)
