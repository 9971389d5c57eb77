"""Eqs. (1) to (9) once more in NumPy and float64, from what hooks read inside both models.

The twins know the paper's layer map, the masks of the batch and the weights of the projections;
scores, means over tokens, shares of roll-outs and logarithms they compute themselves. Models run in
float32 and their losses are summed in float32: agreement is to 1e-6 relative.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.minivln.stage1 import Stage1Config, Stage1Task
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.pretraining import TaskName
from sterna.train.imitation import ImitationConfig, Recorded
from sterna.train.pretrain.batch import PretrainBatch
from sterna.train.pretrain.ends import EndsConfig
from sterna.train.pretrain.task import PretrainConfig, TaskMix
from sterna.train.schedule import uniform_draws
from toy_pretrain import (
    CALM,
    MASKING,
    MIX,
    OBJECT_WIDTH,
    pretrain_model,
    toy_objects,
    view_logits,
    with_goals,
)

Array = NDArray[np.float64]
SMALL = replace(CALM, language_layers=3, panorama_layers=1, cross_layers=2)
DEEP = replace(CALM, hidden_size=36, language_layers=9, panorama_layers=2, cross_layers=4)
TAUGHT_BY = {"language": (2, 5, 8), "panorama": (1,), "local": (1, 3), "global": (1, 3)}
"""Trap 15: block m of the student, counted from 0, learns from this block of its teacher."""


def array(x: torch.Tensor) -> Array:
    out: Array = x.detach().double().numpy()
    return out


def blocks_of(policy: Any, task: TaskName) -> dict[str, list[tuple[nn.Module, nn.Module]]]:
    """Self-attention and last part of every block that a task runs."""
    branch = "lang" if task == "mlm" else "visn"
    out = {
        "language": [(b.attention, b.output) for b in policy.lang_encoder.layer],
        "panorama": [(b.self_attn, b) for b in policy.img_embeddings.pano_encoder.layers],
    }
    for name in ("local", "global") if task in ("mlm", "sap") else ("local",):
        layers = getattr(policy, f"{name}_encoder").encoder.x_layers
        out[name] = [
            (getattr(b, f"{branch}_self_att"), getattr(b, f"{branch}_output")) for b in layers
        ]
    return out


@contextmanager
def listening(modules: list[nn.Module]) -> Iterator[dict[nn.Module, tuple[Array, Array]]]:
    """Keep the first input and output of every module."""
    heard: dict[nn.Module, tuple[Array, Array]] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        given = inputs[0] if inputs[0].is_floating_point() else first
        heard[module] = array(given), array(first)

    handles = [module.register_forward_hook(keep) for module in modules]
    yield heard
    for handle in handles:
        handle.remove()


def tokens_of(x: Array, mask: NDArray[np.bool_]) -> list[Array]:
    """Valid tokens row by row, of padded rows [R, Q, D] or of tokens laid end to end [N, D]."""
    if x.ndim == 3:
        return [x[r, m[: x.shape[1]]] for r, m in enumerate(mask)]
    return np.split(x, np.cumsum(mask.sum(1))[:-1])


def projections(attention: nn.Module) -> list[tuple[Array, Array]]:
    """W_q, b_q and W_k, b_k."""
    values = {name: array(value) for name, value in attention.named_parameters()}
    if "in_proj_weight" in values:
        weights = np.split(values["in_proj_weight"], 3), np.split(values["in_proj_bias"], 3)
        return list(zip(*weights, strict=True))[:2]
    return [(values[f"self.{n}.weight"], values[f"self.{n}.bias"]) for n in ("query", "key")]


def scores_of(attention: nn.Module, x: Array, mask: NDArray[np.bool_]) -> Array:
    """Eq. (2): A = X W_q (X W_k)^T / sqrt(D_head), all heads and valid pairs in one row."""
    (w_q, b_q), (w_k, b_k) = projections(attention)
    parts = []
    for row in tokens_of(x, mask):
        query, key = row @ w_q.T + b_q, row @ w_k.T + b_k
        width = query.shape[1] // CALM.heads
        for h in range(CALM.heads):
            head = slice(h * width, (h + 1) * width)
            parts.append((query[:, head] @ key[:, head].T / np.sqrt(width)).ravel())
    return np.concatenate(parts)


def mse(teacher: Array, student: Array, normalise: bool) -> float:
    error = np.square(teacher - student).mean()
    return float(error / np.square(teacher).mean() if normalise else error)


def stage1(
    panoramas: Panoramas, episodes: list[Episode], name: TaskName, normalise: bool
) -> tuple[Stage1Task, PretrainBatch]:
    student, teacher = (
        pretrain_model(seed, replace(sizes, object_size=OBJECT_WIDTH))
        for seed, sizes in enumerate((SMALL, DEEP))
    )
    torch.manual_seed(3)
    task = Stage1Task(
        student,
        teacher,
        panoramas,
        PretrainConfig(mix=TaskMix(**MIX, og=1.0), ends=EndsConfig(rule="goals"), masking=MASKING),
        Stage1Config(weight=0.5, normalise=normalise),
        view_logits=view_logits(panoramas),
        objects=toy_objects(panoramas),
    )
    return task, task.draw(with_goals(panoramas, episodes)[:60:12], 0, 1, task=name)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", ["mlm", "mrc", "sap", "og"])
def test_stage_1(
    panoramas: Panoramas, episodes: list[Episode], name: TaskName, normalise: bool
) -> None:
    """Eqs. (1) to (5) in the paper's depths, and their sum with the task's loss."""
    task, batch = stage1(panoramas, episodes, name, normalise)
    mine: Any = task.policy
    theirs: Any = task.teacher.policy
    blocks = [blocks_of(policy, name) for policy in (mine, theirs)]
    modules = [m for b in blocks for pairs in b.values() for pair in pairs for m in pair]
    with listening([*modules, mine.embeddings, theirs.embeddings]) as heard:
        out = task(batch)
    inputs = task.inputs(batch)
    here = inputs.panorama_mask[inputs.last].numpy()
    words, nodes = batch.words, inputs.places["node_mask"].numpy()
    local = np.pad(here, ((0, 0), (1, 0)), constant_values=True)
    masks = {"language": words, "panorama": inputs.panorama_mask.numpy()}
    masks |= (
        {"local": words, "global": words} if name == "mlm" else {"local": local, "global": nodes}
    )
    w_e = array(task.embedding_map.weight)
    wanted = {
        "embedding": mse(
            heard[theirs.embeddings][1][words],
            heard[mine.embeddings][1][words] @ w_e.T,
            normalise,
        )
    }
    for module, pairs in blocks[0].items():
        mask, w_h = masks[module], array(task.hidden_maps[module].weight)
        attention = hidden = 0.0
        for (look, end), source in zip(pairs, TAUGHT_BY[module], strict=True):
            their_look, their_end = blocks[1][module][source]
            a_s, a_t = (scores_of(m, heard[m][0], mask) for m in (look, their_look))
            h_s, h_t = (np.concatenate(tokens_of(heard[m][1], mask)) for m in (end, their_end))
            attention += mse(a_t, a_s, normalise)
            hidden += mse(h_t, h_s @ w_h.T, normalise)
        wanted |= {f"{module}_attention": attention, f"{module}_hidden": hidden}
    assert out.metrics.keys() == wanted.keys() | {name, f"{name}_right"}
    for term, value in wanted.items():
        assert out.metrics[term] == pytest.approx(value, rel=1e-6), term
    total = out.metrics[name] + 0.5 * sum(wanted.values())
    assert float(out.loss.detach()) == pytest.approx(total, rel=1e-6)


def stage2(panoramas: Panoramas, normalise: bool) -> DistillTask:
    torch.manual_seed(3)
    return DistillTask(
        pretrain_model(0, SMALL).policy,
        pretrain_model(1, DEEP).policy,
        panoramas,
        ImitationConfig(ml_weight=0.2),
        DistillConfig(weight=0.3, normalise=normalise),
    )


def roll_outs(task: DistillTask, episodes: list[Episode], shown: int, tried: int) -> Recorded:
    draws = uniform_draws(0, 2, 0, (15, tried))
    return task.collect(episodes[:100:20][:shown], episodes[200:300:20][:tried], draws)


def log_softmax(x: Array) -> Array:
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def means_of(tokens: Array, mask: NDArray[np.bool_]) -> Array:
    return np.stack([row.mean(0) for row in tokens_of(tokens, mask)])


def share_of(weights: tuple[float, float], group: NDArray[np.bool_]) -> Array:
    """Roll-out weights spread evenly over items: demonstrations where `group`, else attempts."""
    return np.where(group, weights[0] / max(1, group.sum()), weights[1] / max(1, (~group).sum()))


@pytest.mark.parametrize("normalise", [False, True])
def test_stage_2(panoramas: Panoramas, episodes: list[Episode], normalise: bool) -> None:
    """Eqs. (6) to (9): words once an episode, panorama and decision at every step."""
    task, shown = stage2(panoramas, normalise), 3
    batch = roll_outs(task, episodes, shown, 5)
    models = task.policy, task.teacher
    ends = [m for p in models for m in (p.lang_encoder, p.img_embeddings.pano_encoder)]
    with listening(ends) as heard:
        out = task(batch)
        texts = [heard[task.policy.lang_encoder][1]]
        views = [heard[task.policy.img_embeddings.pano_encoder][1]]
        with torch.no_grad():
            ids = nn.utils.rnn.pad_sequence(
                [torch.tensor(e.token_ids) for e in batch.episodes], batch_first=True
            )
            task.teacher.encode_text(ids, ids > 0)
            task.look(batch.rows.node, batch.rows.pose)
        texts.append(heard[task.teacher.lang_encoder][1])
        views.append(heard[task.teacher.img_embeddings.pano_encoder][1])
    group = np.arange(len(batch.episodes)) < shown
    of_rows = group[batch.rows.agent]
    by_episode, by_row = share_of((0.2, 1.0), group), share_of((0.2, 1.0), of_rows)

    words = [tokens_of(x, ids.numpy() > 0) for x in texts]
    mapped = [w @ array(task.text_map.weight).T for w in words[0]]
    errors = [np.square(t - s).mean() for t, s in zip(words[1], mapped, strict=True)]
    energy = np.square(np.concatenate(words[1])).mean() if normalise else 1.0
    text = float((by_episode * errors).sum() / energy)

    mask = panoramas.mask[batch.rows.node]
    seen = [means_of(x, mask[:, : x.shape[1]]) for x in views]
    error = np.square(seen[1] - seen[0] @ array(task.panorama_map.weight).T).mean(1)
    panorama = float((by_row * error).sum() / (np.square(seen[1]).mean() if normalise else 1.0))

    with torch.no_grad():
        output, _, groups = task.run(batch)
        taught, _ = task.explain(batch, groups)
    fuse, action = 0.0, 0.0
    weight = np.where(of_rows, 0.2 / shown, 1.0 / 5)
    for (index, student), (_, teacher) in zip(output.fused(), taught.fused(), strict=True):
        for row, z_s, z_t in zip(index, array(student), array(teacher), strict=True):
            label = np.flatnonzero(np.isfinite(z_s)).tolist().index(batch.labels[row])
            z_s, z_t = z_s[np.isfinite(z_s)], z_t[np.isfinite(z_t)]
            fuse -= by_row[row] * float((np.exp(log_softmax(z_t)) * log_softmax(z_s)).sum())
            action -= weight[row] * float(log_softmax(z_s)[label])
    wanted = {"text": text, "panorama": panorama, "fuse": fuse, "action": action}
    for term, value in wanted.items():
        assert out.metrics[term] == pytest.approx(value, rel=1e-6), term
    total = action + 0.3 * (text + panorama + fuse)
    assert float(out.loss.detach()) == pytest.approx(total, rel=1e-6)


def test_company_changes_no_term_of_stage_2(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 16: episodes of other lengths pad words, panoramas and maps; terms stay means."""
    task = stage2(panoramas, normalise=False)
    chosen = sorted(episodes[:60], key=lambda e: len(e.token_ids or ()))[::30]
    draws = uniform_draws(0, 2, 0, (15, 1))
    alone = [task.collect([episode], [], draws) for episode in chosen]
    both = task.collect(chosen, [], draws)
    assert len({len(e.token_ids or ()) for e in chosen}) == 2
    single, together = [task(batch).metrics for batch in alone], task(both).metrics
    rows = [len(batch.rows) for batch in alone]
    assert together["text"] == pytest.approx(np.mean([m["text"] for m in single]), rel=1e-5)
    for term in ("panorama", "fuse"):
        wanted = np.average([m[term] for m in single], weights=rows)
        assert together[term] == pytest.approx(wanted, rel=1e-5), term
