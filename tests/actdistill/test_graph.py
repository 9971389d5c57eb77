"""The graphs against NumPy twins, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sterna.actdistill.graph import (
    GraphAttention,
    GraphConfig,
    GraphHeads,
    LayerGraph,
    TokenGraph,
    nearest,
)
from sterna.actdistill.stack import Choices, Chunk, Pointer, Tokens
from sterna.errors import InputError

Array = NDArray[np.float64]


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _weights(module: torch.nn.Module) -> dict[str, Array]:
    return {k: v.detach().double().numpy() for k, v in module.state_dict().items()}


def _token_graph(x: Array, w: dict[str, Array], k: int, heads: int) -> tuple[Array, Array]:
    """One sample, all of whose tokens are there, by the formulas, loop by loop."""
    h = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    h = (h * w["norm.weight"] + w["norm.bias"]) @ w["down.weight"].T + w["down.bias"]
    n, width = h.shape
    phi, psi = h @ w["phi.weight"].T, h @ w["psi.weight"].T
    mapped = (h @ w["rounds.0.map.weight"].T).reshape(n, heads, width)
    out = np.zeros_like(h)
    for i in range(n):
        scores = [(phi[i] @ psi[j] / np.sqrt(width), j) for j in range(n) if j != i]
        near = sorted(scores, reverse=True)[:k]
        prior = np.exp([s for s, _ in near])
        prior /= prior.sum()
        for head in range(heads):
            e = np.array(
                [
                    w["rounds.0.chooser"][head] @ mapped[i, head]
                    + w["rounds.0.chosen"][head] @ mapped[j, head]
                    for _, j in near
                ]
            )
            e = np.where(e > 0, e, 0.2 * e)
            weight = prior * np.exp(e)
            weight /= weight.sum()
            out[i] += (
                sum(a * mapped[j, head] for a, (_, j) in zip(weight, near, strict=True)) / heads
            )
    h = h + np.maximum(out, 0)
    pooled = _softmax(h @ w["pool.weight"][0]) @ h
    hidden = np.maximum(pooled @ w["project.0.weight"].T + w["project.0.bias"], 0)
    return hidden @ w["project.3.weight"].T + w["project.3.bias"], h


@pytest.mark.parametrize("dense", [512, 0])
def test_token_graph_is_its_formula(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sterna.actdistill.graph._DENSE", dense)
    torch.manual_seed(0)
    config = GraphConfig(neighbours=3, width=6, heads=2, size=5)
    graph = TokenGraph(10, config).double().eval()
    graph.norm.weight.data.uniform_(0.5, 1.5)
    x = torch.randn(2, 7, 10)
    semantic, tokens = graph.to(torch.float32)(Tokens(x, torch.ones(2, 7, dtype=torch.bool)))
    for row in range(2):
        expected, vectors = _token_graph(x[row].double().numpy(), _weights(graph), 3, 2)
        np.testing.assert_allclose(semantic[row].detach(), expected, atol=1e-5)
        np.testing.assert_allclose(tokens[row].detach(), vectors, atol=1e-5)


def test_padding_changes_nothing_and_lone_tokens_are_fine() -> None:
    torch.manual_seed(0)
    graph = TokenGraph(10, GraphConfig(width=6, size=5)).eval()
    x = torch.randn(3, 4, 10)
    alone, _ = graph(Tokens(x, torch.ones(3, 4, dtype=torch.bool)))
    padded = torch.cat([x, torch.full((3, 5, 10), 9.0)], 1)
    mask = torch.arange(9).expand(3, -1) < 4
    found, _ = graph(Tokens(padded, mask))
    torch.testing.assert_close(found, alone)
    one = torch.zeros(3, 9, dtype=torch.bool)
    one[:, 2] = True
    single, _ = graph(Tokens(padded.requires_grad_(), one))
    assert bool(torch.isfinite(single).all())
    single.sum().backward()
    assert bool(torch.isfinite(padded.grad).all())  # type: ignore[arg-type]


def test_scores_of_any_size_are_finite() -> None:
    """The release takes exp of unscaled products, which overflows."""
    q = torch.randn(1, 6, 4096, generator=torch.Generator().manual_seed(0)) * 4
    mask = torch.ones(1, 6, dtype=torch.bool)
    released = torch.exp(q.bfloat16() @ q.bfloat16().transpose(1, 2))
    assert not bool(torch.isfinite(released).all())
    _, weight = nearest(q, q, mask, 3)
    assert bool(torch.isfinite(weight).all())
    torch.testing.assert_close(weight.sum(-1), torch.ones(1, 6))
    _, narrow = nearest(q.bfloat16(), q.bfloat16(), mask, 3)
    assert bool(torch.isfinite(narrow).all())


def test_what_is_chosen_comes_to_the_chooser() -> None:
    """In the release a token that nobody chose gets nothing, and the chooser nothing of its own."""
    torch.manual_seed(0)
    layer = GraphAttention(4, 2, 0.0).eval()
    x = torch.randn(1, 3, 4)
    index = torch.tensor([[[1], [0], [0]]])  # nobody chooses token 2
    weight = torch.ones(1, 3, 1)
    out = layer(x, index, weight) - x
    h = layer.map(x).view(1, 3, 2, 4).mean(2)
    torch.testing.assert_close(out[0, 0], h[0, 1].relu())
    torch.testing.assert_close(out[0, 2], h[0, 0].relu())
    released = torch.zeros(1, 3, 4).index_add_(1, index[0, :, 0], h)
    assert not bool(released[0, 2].any()) and bool(out[0, 2].any())


@pytest.mark.parametrize("kind", [Chunk(steps=2, size=3), Choices(slots=2, classes=4), Pointer()])
def test_layer_graph_is_its_formula(kind: object) -> None:
    torch.manual_seed(0)
    config = GraphConfig(width=6, size=5)
    graph = LayerGraph(kind, 3, config)  # type: ignore[arg-type]
    torch.nn.init.normal_(graph.lean.weight)
    torch.nn.init.normal_(graph.edges)
    semantic = [torch.randn(4, 5) for _ in range(3)]
    shape = {"Chunk": (4, 2, 3), "Choices": (4, 2, 4), "Pointer": (4, 6)}[type(kind).__name__]
    actions = [torch.randn(*shape) for _ in range(3)]
    if isinstance(kind, Pointer):
        for action in actions:
            action[:, 3:] = -torch.inf
    out = graph(semantic, actions)
    w = _weights(graph)
    assert torch.equal(out[0], actions[0])
    for row in range(4):
        nodes = []
        for s, a in zip(semantic, actions, strict=True):
            values = a[row].double().numpy()
            if isinstance(kind, Choices):
                values = _softmax(values)
            if isinstance(kind, Pointer):
                p = _softmax(values)
                some = p[p > 0]
                spread = -(some * np.log(some)).sum() / np.log(len(p))
                values = np.array([p[0], p.max(), spread])
            joined = np.concatenate([s[row].double().numpy(), values.ravel()])
            nodes.append(joined @ w["node.weight"].T + w["node.bias"])
        evolved = [np.nan_to_num(actions[0][row].double().numpy(), neginf=0)]
        for deep in range(1, 3):
            q = nodes[deep] @ w["query.weight"].T
            scores = np.array(
                [
                    q @ (nodes[j] @ w["key.weight"].T) / np.sqrt(6) + w["edges"][deep, j]
                    for j in range(deep)
                ]
            )
            c = 1 / (1 + np.exp(-(nodes[deep] @ w["lean.weight"][0] + w["lean.bias"][0])))
            drawn = sum(b * a for b, a in zip(_softmax(scores), evolved, strict=True))
            own = np.nan_to_num(actions[deep][row].double().numpy(), neginf=0)
            evolved.append((1 - c) * own + c * drawn)
            mine = torch.nan_to_num(out[deep][row], neginf=0).detach().numpy()
            np.testing.assert_allclose(mine, evolved[-1], atol=1e-5)
    if isinstance(kind, Pointer):
        assert all(bool(torch.isneginf(a[:, 3:]).all()) for a in out)


def test_edges_lead_from_shallow_to_deep_alone() -> None:
    torch.manual_seed(0)
    graph = LayerGraph(Chunk(steps=2, size=3), 4, GraphConfig(width=6, size=5))
    semantic = [torch.randn(2, 5) for _ in range(4)]
    actions = [torch.randn(2, 2, 3, requires_grad=True) for _ in range(4)]
    out = graph(semantic, actions)
    grads = torch.autograd.grad(out[2].sum(), actions, allow_unused=True)
    assert [g is not None and bool(g.any()) for g in grads] == [True, True, True, False]


def test_each_graph_can_be_switched_off(line: object) -> None:
    whole = GraphHeads(line, GraphConfig())  # type: ignore[arg-type]
    bare = GraphHeads(line, GraphConfig(tokens=False, layers=False)).eval()  # type: ignore[arg-type]
    assert whole.evolution and not bare.evolution
    names = {name.split(".")[-2] for name in bare.graphs.state_dict()}
    assert not names & {"phi", "psi", "pool"}
    x, mask = torch.randn(3, 4, 8), torch.tensor([[1, 1, 0, 1]] * 3, dtype=torch.bool)
    semantic, vectors = bare.graphs[0](Tokens(x, mask))
    mean = vectors[:, [0, 1, 3]].mean(1)
    torch.testing.assert_close(semantic, bare.graphs[0].project(mean))


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match="at least 1"):
        GraphConfig(neighbours=0)
