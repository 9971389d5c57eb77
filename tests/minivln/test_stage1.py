"""Stage 1: a student that is pre-trained while its blocks follow a frozen teacher's."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.minivln.stage1 import MODULES, Stage1Config, Stage1Task
from sterna.models.pretraining import TASKS, PretrainModel, TaskName
from sterna.train.pretrain.batch import PretrainBatch, lay_batch
from sterna.train.pretrain.ends import EndsConfig, draw_end
from sterna.train.pretrain.task import PretrainConfig, TaskMix
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

WIDE = replace(CALM, hidden_size=36, language_layers=3, panorama_layers=2, cross_layers=2)
WITH_OBJECTS = {"object_size": OBJECT_WIDTH}


def make_task(
    panoramas: Panoramas, student: PretrainModel, teacher: PretrainModel, **options: Any
) -> Stage1Task:
    seen = student.policy.config.object_size is not None
    torch.manual_seed(3)
    return Stage1Task(
        student,
        teacher,
        panoramas,
        PretrainConfig(
            mix=TaskMix(**MIX, og=1.0 if seen else 0.0),
            ends=EndsConfig(rule="goals" if seen else "path"),
            masking=MASKING,
        ),
        Stage1Config(**options),
        view_logits=view_logits(panoramas),
        objects=toy_objects(panoramas) if seen else None,
    )


def both(panoramas: Panoramas, **options: Any) -> Stage1Task:
    return make_task(
        panoramas,
        pretrain_model(0, replace(CALM, **WITH_OBJECTS)),
        pretrain_model(1, replace(WIDE, **WITH_OBJECTS)),
        **options,
    )


def draw(task: Stage1Task, episodes: list[Episode], name: TaskName) -> PretrainBatch:
    return task.draw(with_goals(task.panoramas, episodes)[:60:10], 0, 4, task=name)


def digest(model: torch.nn.Module) -> str:
    parts = [v.detach().numpy().tobytes() for v in (*model.parameters(), *model.buffers())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("name", TASKS)
def test_equal_models_have_nothing_to_learn(
    panoramas: Panoramas, episodes: list[Episode], name: TaskName
) -> None:
    """Trap 13: identity maps, same weights: every MSE is 0."""
    student = pretrain_model(0, replace(CALM, **WITH_OBJECTS))
    task = make_task(panoramas, student, copy.deepcopy(student))
    assert torch.equal(task.embedding_map.weight, torch.eye(24))
    batch = draw(task, episodes, name)
    metrics = task(batch).metrics
    terms = {k: v for k, v in metrics.items() if not k.startswith(name)}
    modules = MODULES if name in ("mlm", "sap") else ("language", "panorama", "local")
    wanted = {f"{m}_{kind}" for m in modules for kind in ("attention", "hidden")}
    assert set(terms) == wanted | {"embedding"}
    assert max(terms.values()) < 1e-10
    other = make_task(panoramas, student, pretrain_model(1, replace(CALM, **WITH_OBJECTS)))
    assert min(v for k, v in other(batch).metrics.items() if k in terms) > 1e-3


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("normalise", [False, True])
def test_loss_is_the_sum_of_its_parts(
    panoramas: Panoramas, episodes: list[Episode], name: TaskName, normalise: bool
) -> None:
    """Every block by hand in NumPy: h(m) = 3m in language, 2m elsewhere; one map a module."""
    task = both(panoramas, weight=0.5, normalise=normalise)
    assert task.blocks == {"language": (3,), "panorama": (2,), "local": (2,), "global": (2,)}
    batch = draw(task, episodes, name)
    out = task(batch)
    with torch.no_grad():
        mine = task.model(name, task.inputs(batch), details=True)
    theirs, total = task.explain(batch), 0.0

    def mse(student: np.ndarray, teacher: np.ndarray) -> float:
        error = float(np.square(teacher - student).mean())
        return error / float(np.square(teacher).mean()) if normalise else error

    def array(x: torch.Tensor | None) -> np.ndarray:
        assert x is not None
        return x.detach().double().numpy()

    words = array(mine.words).astype(bool)
    mapped = array(mine.embedding) @ array(task.embedding_map.weight).T
    total += mse(mapped[words], array(theirs.embedding)[words])
    for module, layers in mine.layers.items():
        mask = array(layers.mask).astype(bool)
        taught = theirs.layers[module]
        w = array(task.hidden_maps[module].weight)
        hidden = mse((array(layers.hidden[0]) @ w.T)[mask], array(taught.hidden[-1])[mask])
        pairs = np.broadcast_to((mask[:, :, None] & mask[:, None])[:, None], layers.scores[0].shape)
        scores = mse(array(layers.scores[0])[pairs], array(taught.scores[-1])[pairs])
        assert out.metrics[f"{module}_hidden"] == pytest.approx(hidden, rel=1e-6)
        assert out.metrics[f"{module}_attention"] == pytest.approx(scores, rel=1e-6)
        total += hidden + scores
    assert float(out.loss.detach()) == pytest.approx(out.metrics[name] + 0.5 * total, rel=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_padding_changes_nothing(
    panoramas: Panoramas, episodes: list[Episode], name: TaskName
) -> None:
    """Trap 16: more padding behind the words."""
    task = both(panoramas)
    batch = draw(task, episodes, name)
    extra = ((0, 0), (0, 7))
    longer = replace(
        batch,
        ids=np.pad(batch.ids, extra, constant_values=9),
        words=np.pad(batch.words, extra),
        word_labels=None
        if batch.word_labels is None
        else np.pad(batch.word_labels, extra, constant_values=-1),
    )
    a, b = task(batch).metrics, task(longer).metrics
    assert set(a) == set(b)
    for key, value in a.items():
        assert b[key] == pytest.approx(value, rel=2e-5), key


def test_company_changes_nothing(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 16: a batch of two is the mean of its walks, by tokens and by pairs of tokens.

    The longer of the two pads the other's words, panorama and map.
    """
    task = both(panoramas)
    atlas, rng = panoramas.atlas, np.random.default_rng(0)
    two = with_goals(panoramas, episodes)[:20:19]
    ends = [draw_end(atlas, e, "sap", rng, task.config.ends) for e in two]

    def parts(chosen: list[int]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        batch = lay_batch(
            "sap",
            [two[i] for i in chosen],
            [ends[i] for i in chosen],
            panoramas,
            task.objects,
            "goals",
        )
        layers = task.explain(batch).layers
        counts = {name: layer.mask.sum(1).numpy() for name, layer in layers.items()}
        return task(batch).metrics, counts

    together, counts = parts([0, 1])
    assert any(len(set(c.tolist())) > 1 for c in counts.values()), "there is padding"
    alone = [parts([0]), parts([1])]
    for key, value in together.items():
        module, _, term = key.partition("_")
        if term in ("attention", "hidden"):
            weights = [(c[module] ** (2 if term == "attention" else 1)).sum() for _, c in alone]
            wanted = np.average([m[key] for m, _ in alone], weights=weights)
            assert value == pytest.approx(wanted, rel=2e-5), key


def test_masks_and_graph_bias_are_not_in_the_scores(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """Scores of the global encoder do not move with the weight of map distances."""
    task = both(panoramas)
    batch = draw(task, episodes, "sap")
    before = task.explain(batch).layers["global"].scores[0]
    assert float(before.abs().max()) < 1e3, "no mask constant"
    bias = task.teacher.policy.global_encoder.sprel_linear
    assert bias is not None
    bias.weight.fill_(5.0)
    torch.testing.assert_close(task.explain(batch).layers["global"].scores[0], before)


def test_teacher_stays_as_it_is(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 17: eval mode after task.train(), no gradient, not saved, same bytes after 100 steps."""
    task = both(panoramas).train()
    before = digest(task.teacher)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3, fused=True)
    maps = copy.deepcopy(task.hidden_maps.state_dict())
    batches = [draw(task, episodes, name) for name in TASKS]
    for number in range(100):
        optimizer.zero_grad()
        task(batches[number % len(batches)]).loss.backward()
        optimizer.step()
    assert digest(task.teacher) == before
    assert task.model.training and not any(m.training for m in task.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
    assert not {id(p) for p in task.parameters()} & {id(p) for p in task.teacher.parameters()}
    extra = {k for k in task.state_dict() if not k.startswith("model.")}
    assert extra == {"embedding_map.weight", *(f"hidden_maps.{m}.weight" for m in MODULES)}
    assert all(not torch.equal(maps[k], v) for k, v in task.hidden_maps.state_dict().items())


def test_terms_fall_when_they_are_learnt(panoramas: Panoramas, episodes: list[Episode]) -> None:
    task = both(panoramas, weight=1.0, normalise=True).train()
    batch = draw(task, episodes, "sap")
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    first = task(batch).metrics
    for _ in range(30):
        optimizer.zero_grad()
        output = task(batch)
        output.loss.backward()
        optimizer.step()
    last = output.metrics
    assert all(last[k] < first[k] for k in first if k.endswith(("_hidden", "embedding")))
    assert sum(v for k, v in last.items() if k.endswith("_attention")) < 0.8 * sum(
        v for k, v in first.items() if k.endswith("_attention")
    )


def test_terms_are_switched_off(panoramas: Panoramas, episodes: list[Episode]) -> None:
    batch = draw(both(panoramas), episodes, "sap")
    quiet = both(panoramas, embedding=False, attention=False)
    assert set(quiet(batch).metrics) == {"sap", "sap_right", *(f"{m}_hidden" for m in MODULES)}
    alone = both(panoramas, weight=0.0)
    out = alone(batch)
    assert set(out.metrics) == {"sap", "sap_right"}
    assert float(out.loss.detach()) == pytest.approx(out.metrics["sap"])


def test_teacher_with_other_features(panoramas: Panoramas, episodes: list[Episode]) -> None:
    wider = copy.copy(panoramas)
    wider.features = np.concatenate([panoramas.features, panoramas.features[:, :5]], 1)
    wider.size = wider.features.shape[1]
    student, teacher = pretrain_model(0), pretrain_model(1, replace(WIDE, feature_size=wider.size))
    with pytest.raises(InputError, match="reads views of width 37, found 32"):
        make_task(panoramas, student, teacher)
    config = PretrainConfig(masking=MASKING)
    task = Stage1Task(student, teacher, panoramas, config, Stage1Config(), teacher_panoramas=wider)
    batch = task.draw(episodes[:4], 0, 0, task="sap")
    assert torch.isfinite(task(batch).loss)


def test_models_that_do_not_fit(panoramas: Panoramas) -> None:
    student = pretrain_model(0)
    more = pretrain_model(1, replace(WIDE, heads=6))
    with pytest.raises(InputError, match=r"needs 6 heads as its teacher has, found 4; .* multiple"):
        make_task(panoramas, student, more)
    assert make_task(panoramas, student, more, attention=False).blocks["language"] == (3,)
    with pytest.raises(InputError, match=r"language blocks: .* at most 1"):
        make_task(panoramas, pretrain_model(0, replace(CALM, language_layers=2)), student)
    with pytest.raises(InputError, match="reads 64 word pieces, the teacher 70"):
        make_task(panoramas, student, pretrain_model(1, replace(WIDE, vocab_size=70)))
    with pytest.raises(InputError, match="both or neither must see objects"):
        make_task(panoramas, student, pretrain_model(1, replace(WIDE, **WITH_OBJECTS)))
