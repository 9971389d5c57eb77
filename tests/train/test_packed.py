"""The packed pass equals the step-by-step walk: logits, node features' effect, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from sterna.data.episodes import Episode
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import Panoramas
from sterna.models.agent import Agent, token_batch
from sterna.models.duet import DUET
from sterna.models.topomap import MapRows, TopoMap
from sterna.models.walk import Walk, sample_with
from sterna.train.imitation import ImitationConfig, record
from sterna.train.packed import buckets, packed_pass
from sterna.world.geometry import Ints
from toy import TINY, episode_on, graph_of, panoramas_of, random_objects, tiny_model


def sampled(
    model: DUET, panoramas: Panoramas, episodes: list[Episode], *, follow: bool
) -> tuple[MapRows, Ints, Walk]:
    rng = np.random.default_rng(0)
    choose = None if follow else sample_with(lambda n: rng.random(n))
    with torch.no_grad():
        agent = Agent(model, panoramas, cache=False)
        return record(panoramas, episodes, choose, agent=agent, config=ImitationConfig())


def packed_logits(
    model: DUET, panoramas: Panoramas, episodes: list[Episode], rows: MapRows, count: int
) -> list[torch.Tensor]:
    """Fused logits of every row, in order, in as many buckets as asked for."""
    ids, mask = token_batch(episodes)
    text = model.encode_text(ids, mask)
    groups = list(buckets(rows, int(panoramas.lengths[rows.node].max()), count))
    assert sorted(np.concatenate([g.index for g in groups]).tolist()) == list(range(len(rows)))
    table = torch.from_numpy(panoramas.features)
    output = packed_pass(model, panoramas, table, text, rows, groups)
    found: dict[int, torch.Tensor] = {}
    for index, fused in output.fused():
        found |= dict(zip(index.tolist(), fused, strict=True))
    return [found[i] for i in range(len(rows))]


def compare(found: list[torch.Tensor], rows: MapRows, done: Walk) -> None:
    walked = [row for logits in done.logits for row in logits]
    scale = max(1.0, *(float(np.abs(r[np.isfinite(r)]).max()) for r in walked))
    for i, (mine, wanted) in enumerate(zip(found, walked, strict=True)):
        used = int(rows.mask[i].sum())
        a, b = mine.detach().numpy()[:used], wanted[:used]
        assert np.array_equal(np.isfinite(a), np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * scale)
        assert np.isneginf(mine.detach().numpy()[used:]).all()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("follow", [True, False])
def test_equals_the_walk(
    panoramas: Panoramas, episodes: list[Episode], count: int, follow: bool
) -> None:
    model, some = tiny_model().eval(), episodes[::71]
    rows, _, done = sampled(model, panoramas, some, follow=follow)
    assert len(set(np.bincount(rows.agent).tolist())) > 1, "walks should differ in length"
    compare(packed_logits(model, panoramas, some, rows, count), rows, done)


@pytest.fixture(scope="module")
def square() -> tuple[Panoramas, list[Episode]]:
    """A path that comes back to nodes it has left, as R4R's paths do."""
    places = np.array([[0, 0, 0], [0, 2, 0], [2, 2, 0], [2, 0, 0], [0, 4, 0], [4, 4, 0]])
    graph = graph_of(places, [(0, 1), (1, 2), (2, 3), (3, 0), (1, 4), (2, 5)])
    paths = [[0, 1, 2, 1, 0, 3], [4, 1, 0, 1, 2, 3, 2, 5], [0, 1]]
    return panoramas_of([graph]), [episode_on(graph, p, i) for i, p in enumerate(paths)]


@pytest.mark.parametrize("count", [1, 3])
def test_equals_the_walk_over_a_path_that_revisits(
    square: tuple[Panoramas, list[Episode]], count: int
) -> None:
    panoramas, episodes = square
    model = tiny_model().eval()
    rows, labels, done = sampled(model, panoramas, episodes, follow=True)
    assert np.bincount(rows.agent).tolist() == [6, 8, 2]
    last = rows.agent == 0
    assert rows.steps[last].max() == 6 and (labels[last & (rows.step == 5)] == 0).all()
    compare(packed_logits(model, panoramas, episodes, rows, count), rows, done)


@pytest.mark.parametrize("count", [1, 3])
def test_equals_the_walk_in_a_world_with_objects(
    square: tuple[Panoramas, list[Episode]], count: int
) -> None:
    """Objects lengthen panoramas and change their means, hence the map; both passes see them."""
    plain, episodes = square
    atlas = plain.atlas
    views = InMemoryViews({k: plain.features[36 * i :][:36] for i, k in enumerate(atlas.keys)})
    panoramas = Panoramas(atlas, views, random_objects(atlas))
    model = tiny_model(config=replace(TINY, object_size=5)).eval()
    rows, _, done = sampled(model, panoramas, episodes, follow=True)
    compare(packed_logits(model, panoramas, episodes, rows, count), rows, done)
    _, _, bare = sampled(model, plain, episodes, follow=True)
    # All start in rooms without objects; the second decision is taken among some.
    np.testing.assert_allclose(done.logits[0], bare.logits[0], rtol=0, atol=1e-6)
    assert not np.allclose(done.logits[1][:, 0], bare.logits[1][:, 0], atol=1e-4)
    for i, hops in enumerate(done.hops):
        end = hops[-1][-1]
        visits = [step for step, row in enumerate(done.rows) if end in row.node[row.agent == i]]
        assert done.found[i] == done.objects[i, visits[-1]]
        if panoramas.lengths[end] > panoramas.view_lengths[end]:
            assert done.found[i] in panoramas.object_ids[end]
        else:
            assert done.found[i] == -1


def stepwise_loss(
    model: DUET, panoramas: Panoramas, episodes: list[Episode], rows: MapRows, labels: Ints
) -> torch.Tensor:
    """The same loss, one decision after another, with the gradient through all of them."""
    agent = Agent(model, panoramas, cache=False)
    first = rows.node[np.searchsorted(rows.agent[rows.step == 0], np.arange(len(episodes)))]
    agent.reset(episodes, topomap := TopoMap(panoramas.atlas, first))
    losses = []
    for step in range(int(rows.step.max()) + 1):
        now = np.flatnonzero(rows.step == step)
        seen = topomap.observe(rows.agent[now], rows.node[now], rows.pose[now], step)
        fused = agent.navigate(seen).fused
        wanted = torch.from_numpy(labels[now])
        losses.append(functional.cross_entropy(fused, wanted, reduction="sum"))
    return torch.stack(losses).sum() / len(episodes)


@pytest.mark.parametrize("follow", [True, False])
def test_gradient_equals_that_of_the_walk(
    panoramas: Panoramas, episodes: list[Episode], follow: bool
) -> None:
    model, some = tiny_model().eval(), episodes[::97]
    rows, labels, _ = sampled(model, panoramas, some, follow=follow)
    grads = []
    for packed in (True, False):
        model.zero_grad()
        if packed:
            found = packed_logits(model, panoramas, some, rows, 3)
            entropy = [
                functional.cross_entropy(x[None], torch.tensor([y]))
                for x, y in zip(found, labels.tolist(), strict=True)
            ]
            loss = torch.stack(entropy).sum() / len(some)
        else:
            loss = stepwise_loss(model, panoramas, some, rows, labels)
        loss.backward()
        grads.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    total = torch.stack([g.norm() for g in grads[1].values()]).norm().item()
    for name, wanted in grads[1].items():
        torch.testing.assert_close(
            grads[0][name], wanted, rtol=1e-4, atol=1e-6 * total, msg=lambda m, n=name: f"{n}: {m}"
        )
