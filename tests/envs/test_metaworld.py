"""Meta-World itself: scenes from seeds, experts, noise without noise in the labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from sterna.envs.demonstrate import Noise, NoiseConfig, demonstrate
from sterna.envs.metaworld import SENTENCES, MetaworldTask, choose_gl, sentence
from sterna.errors import InputError
from sterna.metrics.manipulation import METAWORLD_10, Camera


def need_metaworld() -> None:
    if find_spec("metaworld") is None:
        pytest.skip("the extra `metaworld` is not installed: tasks are not checked")
    try:
        choose_gl()
    except InputError as error:
        pytest.skip(f"tasks are not checked: {error}")


@pytest.fixture(scope="module")
def task() -> Iterator[MetaworldTask]:
    need_metaworld()
    made = MetaworldTask("handle-press", METAWORLD_10)
    yield made
    made.close()


def test_every_task_of_the_protocol_has_a_sentence() -> None:
    assert all(sentence(name) for name in METAWORLD_10.tasks)
    assert len(set(SENTENCES.values())) == len(SENTENCES)
    with pytest.raises(InputError, match="no task 'fly'"):
        sentence("fly")


def test_a_scene_is_a_function_of_its_seed(task: MetaworldTask) -> None:
    seen = []
    for seed in (3, 4, 3):
        task.reset(seed)
        for _ in range(4):
            task.step(task.expert_action())
        seen.append((task.images(), task.proprio(), task._state.copy()))
    for first, _, again in zip(*seen, strict=True):
        assert np.array_equal(first, again)
    assert not np.array_equal(seen[0][2], seen[1][2])
    images = seen[0][0]
    assert images.shape == (1, 96, 96, 3) and images.dtype == np.uint8 and images.std() > 20
    assert seen[0][1].shape == (4,) and seen[0][1].dtype == np.float32


def test_the_expert_succeeds_and_doing_nothing_does_not(task: MetaworldTask) -> None:
    task.reset(0)
    assert not any(task.step(np.zeros(4)) for _ in range(20))
    demo = demonstrate(task, 0, None, chunk=8, stride=3)
    assert demo is not None and not demo.noisy and demo.steps < 60
    frames = len(range(0, demo.steps, 3))
    assert demo.images.shape == (frames, 1, 96, 96, 3) and demo.proprio.shape == (frames, 4)
    assert demo.actions.shape == (frames, 8, 4) and np.abs(demo.actions).max() <= 1
    # Labels are the actions of the following steps: consecutive frames overlap.
    assert np.array_equal(demo.actions[0, 3:], demo.actions[1, :5])


def test_noise_moves_the_hand_and_leaves_the_labels_clean(task: MetaworldTask) -> None:
    noise = NoiseConfig(push=0.2)
    found = [demonstrate(task, 1, n, chunk=4, stride=5) for n in (None, noise, noise)]
    clean, noisy, again = found
    assert clean is not None and noisy is not None and again is not None
    assert np.array_equal(noisy.proprio, again.proprio) and noisy.noisy
    assert not np.allclose(noisy.proprio[1, :3], clean.proprio[1, :3], atol=1e-4)
    # Replayed, every label is what the expert says at that place.
    task.reset(1)
    disturb, labels = Noise(noise, 1), []
    for _ in range(12):
        labels.append(task.expert_action())
        task.step(disturb(labels[-1]))
    assert np.array_equal(noisy.actions[0], np.stack(labels[:4]))
    assert np.array_equal(noisy.actions[1], np.stack(labels[5:9]))


def test_a_failed_demonstration_is_none(task: MetaworldTask) -> None:
    task.protocol = replace(METAWORLD_10, name="short", max_steps=6)
    assert demonstrate(task, 0, None, chunk=8, stride=3) is None
    task.protocol = METAWORLD_10


def test_cameras_look_where_they_are_told(task: MetaworldTask) -> None:
    task.reset(2)
    near = Camera(name="near", fovy=20.0)
    task.protocol = replace(METAWORLD_10, name="two", cameras=(Camera(), near))
    images = task.images()
    task.protocol = METAWORLD_10
    assert images.shape == (2, 96, 96, 3) and not np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], task.images()[0])


def test_what_is_not_drawn_is_not_seen(task: MetaworldTask) -> None:
    """Parts that the overhead camera never sees are left out; drawn, they change no pixel."""
    whole = MetaworldTask(
        "handle-press", replace(METAWORLD_10, name="two", cameras=(Camera(),) * 2)
    )
    for steps in (0, 30):
        for one in (task, whole):
            one.reset(3)
            for _ in range(steps):
                one.step(one.expert_action())
        assert np.array_equal(task.images()[0], whole.images()[0])
    whole.close()


def test_actions_that_are_no_numbers_are_refused(task: MetaworldTask) -> None:
    with pytest.raises(InputError, match="not finite"):
        task.step(np.array([np.nan, 0, 0, 0]))
    with pytest.raises(InputError, match="push in"):
        NoiseConfig(push=2)
