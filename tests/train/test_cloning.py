"""Behaviour cloning: learns the toy, resumes exactly, averages its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sterna.data.demos.store import DemoStore
from sterna.errors import InputError
from sterna.models.vla import Vla, VlaConfig
from sterna.train.cloning import CloningConfig, CloningRunner, CloningTask, Samples, judge, shifted
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig
from toy_demos import CHUNK, SIZE, write_toy_demos

CONFIG = VlaConfig(
    words=("close", "door", "open", "the"),
    image_size=SIZE,
    depth=2,
    width=32,
    heads=2,
    ffn=64,
    chunk=CHUNK,
)
ADAMW = OptimizerConfig(learning_rate=3e-3, schedule="linear", clip_norm=1.0, warmup=10)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    store = DemoStore(write_toy_demos(tmp_path_factory.mktemp("toy") / "demos"))
    return Samples(store, CONFIG, ["open the door", "close the door"])


def make_task(samples: Samples, cloning: CloningConfig) -> CloningTask:
    torch.manual_seed(1)
    policy = Vla(CONFIG)
    policy.proprio_mean, policy.proprio_scale = samples.statistics()
    return CloningTask(policy, cloning)


def make_runner(
    samples: Samples, out: Path, iterations: int, cloning: CloningConfig, **more: object
) -> CloningRunner:
    loop = LoopConfig(
        iterations=iterations, batch_size=16, log_every=50, save_every=4, select_by="last"
    )
    task = make_task(samples, cloning)
    return CloningRunner(task, samples, out, loop, ADAMW, config={"x": 1}, **more)


def test_it_learns_to_look_and_to_listen(samples: Samples, tmp_path: Path) -> None:
    runner = make_runner(samples, tmp_path / "run", 110, CloningConfig(shift=0, average=0.9))
    before = judge(runner.cloning.average, samples, samples.held_out)["L1"]
    runner.run()
    after = judge(runner.cloning.average, samples, samples.held_out)
    assert after["L1"] < 0.4 * before and after["L1_first"] < 0.4 * before
    # The sentence alone tells the two tasks apart: with the wrong one it is worse than nothing.
    swapped = Samples(samples.store, CONFIG, ["close the door", "open the door"])
    assert judge(runner.cloning.average, swapped, samples.held_out)["L1"] > before


def test_a_killed_run_goes_on_bit_for_bit(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloning = CloningConfig(shift=2, average=0.9)
    whole = make_runner(samples, tmp_path / "whole", 8, cloning)
    whole.run()
    killed = make_runner(samples, tmp_path / "killed", 8, cloning)
    step = killed.step

    def until(iteration: int) -> object:
        if iteration == 6:
            raise KeyboardInterrupt
        return step(iteration)

    monkeypatch.setattr(killed, "step", until)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = make_runner(samples, tmp_path / "killed", 8, cloning)
    assert again.progress.iteration == 4
    again.run()
    for (name, ours), theirs in zip(
        again.cloning.state_dict().items(), whole.cloning.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_the_mean_follows_the_weights(samples: Samples) -> None:
    task = make_task(samples, CloningConfig(average=0.9))
    begin = task.average.query.clone()
    with torch.no_grad():
        task.policy.query.add_(1.0)
    task.follow(1000)
    assert torch.allclose(task.average.query, begin + 0.1, atol=1e-6)
    task.follow(0)  # the first iterations count for more
    assert torch.allclose(task.average.query, begin + 1.0 - 0.9 * 0.1, atol=1e-6)
    assert not any(p.requires_grad for p in task.average.parameters())


def test_pictures_are_shifted_with_their_edges_repeated() -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 1, 4, 4, 3)
    found = shifted(images, np.array([[1, 0], [0, -2]]))
    assert np.array_equal(found[0, 0, :3], images[0, 0, 1:])
    assert np.array_equal(found[0, 0, 3], images[0, 0, 3])
    assert np.array_equal(found[1, 0, :, 2:], images[1, 0, :, :2])
    assert np.array_equal(found[1, 0, :, 0], images[1, 0, :, 0])


def test_batches_hold_no_held_out_frame(samples: Samples, tmp_path: Path) -> None:
    runner = make_runner(samples, tmp_path / "run", 1, CloningConfig())
    seen = np.concatenate([runner._pieces(i)[0].ids.numpy() for i in range(27)])  # type: ignore[union-attr]
    assert set(seen) == set(samples.train) and not samples.store.held_out[seen].any()


def test_what_does_not_fit_is_named(samples: Samples) -> None:
    with pytest.raises(InputError, match="the model wants"):
        Samples(samples.store, VlaConfig(words=("the",), chunk=CHUNK), ["the"] * 2)
    with pytest.raises(InputError, match="average"):
        CloningConfig(average=1.0)
