"""Pre-training against the original DUET code: data, logits and losses (golden set B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golden import LIVELY
from golden_pretrain import Archive, golden_task, read_boxes
from sterna.data.episodes import Episode
from sterna.models.pretraining import PretrainOutput, TaskName
from sterna.train.pretrain.batch import PretrainBatch, lay_batch, walk_inputs
from sterna.train.pretrain.ends import Ending, EndsConfig, end_anywhere, end_on_path, goal_nodes
from sterna.train.pretrain.objects import class_odds
from sterna.train.pretrain.task import PretrainTask

SETS = ["r2r", "reverie"]
TASKS: dict[str, list[TaskName]] = {
    "r2r": ["mlm", "mrc", "sap"],
    "reverie": ["mlm", "mrc", "sap", "og"],
}
CASES = [(name, task) for name in SETS for task in TASKS[name]]
WEIGHTS = {"s02": (0.02, ""), "lively": LIVELY}


@pytest.fixture(scope="module")
def boxes(data_dir: Path) -> dict[str, dict[str, Any]]:
    return read_boxes(data_dir)


class World:
    """Golden tasks and archives, each made once."""

    def __init__(self, data: Path, boxes: dict[str, dict[str, Any]]) -> None:
        self.data, self.boxes = data, boxes
        self.kept: dict[tuple[str, str], tuple[PretrainTask, list[Episode]]] = {}
        self.archives = {name: Archive(data / "golden" / f"B_small_{name}.npz") for name in SETS}

    def task(self, name: str, label: str) -> tuple[PretrainTask, list[Episode]]:
        if (name, label) not in self.kept:
            seen = self.boxes if name == "reverie" else None
            self.kept[name, label] = golden_task(
                self.data, self.archives[name], WEIGHTS[label], seen
            )
        return self.kept[name, label]


@pytest.fixture(scope="module")
def world(data_dir: Path, boxes: dict[str, dict[str, Any]]) -> World:
    return World(data_dir, boxes)


def endings(task: PretrainTask, episodes: Sequence[Episode], ends: Sequence[str]) -> list[Ending]:
    """The walks that end at the stored viewpoints."""
    atlas, config, out = task.panoramas.atlas, task.config.ends, []
    for episode, end in zip(episodes, ends, strict=True):
        node = atlas.node(episode.scan, end)
        if config.rule == "path":
            path = [atlas.node(episode.scan, v) for v in episode.path]
            out.append(end_on_path(path, path.index(node), config))
        else:
            start = atlas.node(episode.scan, episode.start)
            out.append(end_anywhere(atlas, start, node, goal_nodes(atlas, episode), config))
    return out


def stored_batch(
    task: PretrainTask, episodes: Sequence[Episode], archive: Archive, name: TaskName
) -> PretrainBatch:
    """Our batch of the stored ends, with the stored masks."""
    ends = endings(task, episodes, archive.json(f"in/{name}/end_vps"))
    rule = task.config.ends.rule
    batch = lay_batch(name, episodes, ends, task.panoramas, task.objects, rule)
    if name == "mlm":
        shown, labels = archive["in/mlm/txt_ids"], archive["in/mlm/txt_labels"]
        assert np.array_equal(np.where(labels >= 0, labels, shown), batch.ids), "the same words"
        batch = replace(batch, ids=shown, word_labels=labels)
    if name == "mrc":
        hidden = archive["in/mrc/vp_view_mrc_masks"]
        objects = archive.arrays.get("in/mrc/vp_obj_mrc_masks")
        batch = replace(batch, hidden_views=hidden, hidden_objects=objects)
    return batch


@pytest.mark.parametrize(("name", "task_name"), CASES)
def test_batches_equal_the_original(world: World, name: str, task_name: TaskName) -> None:
    """Walks, map order, positions, distances, location features and labels, entry by entry."""
    task, episodes = world.task(name, "s02")
    archive, atlas = world.archives[name], task.panoramas.atlas
    batch = stored_batch(task, episodes, archive, task_name)
    rows, walks = batch.walks.rows, batch.walks

    def given(key: str) -> np.ndarray:
        return archive[f"in/{task_name}/{key}"]

    paths = archive.json(f"in/{task_name}/traj_vpids")
    assert [atlas.viewpoints[n] for n in walks.node] == [v for path in paths for v in path]
    nodes = archive.json(f"in/{task_name}/gmap_vpids")
    for row, wanted in zip(rows.nodes, nodes, strict=True):
        assert [atlas.viewpoints[n] for n in row[1:] if n >= 0] == wanted[1:]
    assert np.array_equal(rows.mask.sum(1), given("gmap_lens"))
    assert np.array_equal(rows.steps, given("gmap_step_ids"))
    assert np.array_equal(rows.visited, given("gmap_visited_masks"))
    np.testing.assert_allclose(rows.positions, given("gmap_pos_fts"), atol=2e-6)
    np.testing.assert_allclose(rows.distances, given("gmap_pair_dists"), atol=2e-5)
    width = rows.local_positions.shape[1]
    positions = given("vp_pos_fts")
    shared = min(width, positions.shape[1])
    np.testing.assert_allclose(rows.local_positions[:, :shared], positions[:, :shared], atol=2e-6)
    assert not positions[:, shared:, 7:].any()
    inputs = walk_inputs(batch, task.panoramas, task.table, task.objects, torch.device("cpu"))
    wide = inputs.locations.shape[1]
    assert not given("traj_loc_fts")[:, wide:].any()
    locations = np.where(inputs.panorama_mask[..., None], inputs.locations, 0)
    np.testing.assert_allclose(locations, given("traj_loc_fts")[:, :wide], atol=2e-6)
    kinds = np.where(inputs.panorama_mask, inputs.nav_types, 0)
    assert np.array_equal(kinds, given("traj_nav_types")[:, :wide])
    if task_name == "sap":
        assert batch.actions is not None
        assert np.array_equal(batch.actions[0], given("local_act_labels"))
        assert np.array_equal(batch.actions[1], given("global_act_labels"))
    if task_name == "og":
        assert batch.object_labels is not None
        assert np.array_equal(batch.object_labels, given("obj_labels"))


@pytest.mark.parametrize("label", list(WEIGHTS))
@pytest.mark.parametrize(("name", "task_name"), CASES)
def test_losses_and_logits_equal_the_original(
    world: World, name: str, task_name: TaskName, label: str
) -> None:
    """Also with `details`, the pass that distillation uses."""
    task, episodes = world.task(name, label)
    archive = world.archives[name]
    batch = stored_batch(task, episodes, archive, task_name)
    wanted = archive[f"{label}/{task_name}/loss"]
    for details in (False, True):
        with torch.no_grad():
            output = task.model(task_name, task.inputs(batch), details=details)
            losses, _ = task.losses(batch, output)
        np.testing.assert_allclose(losses.numpy(), wanted, rtol=2e-5)
        CHECKS[task_name](task, batch, output, archive, label)
    mean = task.learn(batch, output).loss.detach()
    assert float(mean) == pytest.approx(float(wanted.mean()), rel=2e-5)


def close(found: torch.Tensor, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-6, atol=tolerance)


def check_words(
    task: PretrainTask, batch: PretrainBatch, output: PretrainOutput, archive: Archive, label: str
) -> None:
    assert batch.word_labels is not None
    with torch.no_grad():
        logits = task.model.word_logits(output.embeds[torch.from_numpy(batch.word_labels >= 0)])
    columns = torch.from_numpy(archive[f"{label}/mlm/columns"])
    close(logits[:, columns], archive[f"{label}/mlm/scores"])
    norm = np.linalg.norm(logits.double().numpy(), axis=1)
    np.testing.assert_allclose(norm, archive[f"{label}/mlm/score_norm"], rtol=1e-6)
    assert np.array_equal(logits.argmax(1).numpy(), archive[f"{label}/mlm/argmax"])


def check_regions(
    task: PretrainTask, batch: PretrainBatch, output: PretrainOutput, archive: Archive, label: str
) -> None:
    assert batch.hidden_views is not None and task._logits is not None
    walk, place = np.nonzero(batch.hidden_views)
    with torch.no_grad():
        logits = task.model.view_logits(output.embeds[walk, 1 + place])
    close(logits, archive[f"{label}/mrc/view_logits"])
    node = batch.walks.rows.node[walk]
    odds = class_odds(task._logits[task.panoramas.token_rows[node, place]])
    squares = np.square(odds.astype(np.float64)).sum(1)
    np.testing.assert_allclose(squares, archive[f"{label}/mrc/view_target_sum_sq"], rtol=1e-5)
    if batch.hidden_objects is not None:
        walk, place = np.nonzero(batch.hidden_objects)
        token = 1 + task.panoramas.lengths[batch.walks.rows.node[walk]] + place
        with torch.no_grad():
            logits = task.model.object_class_logits(output.embeds[walk, token])
        close(logits, archive[f"{label}/mrc/obj_logits"])


def check_actions(
    task: PretrainTask, batch: PretrainBatch, output: PretrainOutput, archive: Archive, label: str
) -> None:
    out = output.navigation
    assert out is not None
    close(out.fused, archive[f"{label}/sap/fused_logits"])
    close(out.global_, archive[f"{label}/sap/global_logits"])
    local = archive[f"{label}/sap/local_logits"]
    close(out.local, local[:, : out.local.shape[1]])
    assert np.isneginf(local[:, out.local.shape[1] :]).all()


def check_objects(
    task: PretrainTask, batch: PretrainBatch, output: PretrainOutput, archive: Archive, label: str
) -> None:
    with torch.no_grad():
        logits = task.object_logits(output)
    wanted = archive[f"{label}/og/obj_logits"]
    for row, stored in zip(logits, wanted, strict=True):
        open_ = row[~row.isinf()]
        close(open_, stored[: len(open_)])
        assert np.isneginf(stored[len(open_) :]).all()


CHECKS = {
    "mlm": check_words,
    "mrc": check_regions,
    "sap": check_actions,
    "og": check_objects,
}


def test_a_walk_of_another_length_would_be_noticed(world: World) -> None:
    """The comparison is not blind: another end gives other losses."""
    task, episodes = world.task("r2r", "lively")
    archive = world.archives["r2r"]
    batch = stored_batch(task, episodes, archive, "sap")
    ends = [e.path[1] for e in episodes]
    moved = lay_batch(
        "sap", episodes, endings(task, episodes, ends), task.panoramas, None, EndsConfig().rule
    )
    with torch.no_grad():
        mine = task(batch).loss, task(moved).loss
    assert abs(float(mine[0] - mine[1])) > 1e-2
