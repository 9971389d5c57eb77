"""The loop of closed-loop GRPO: resumed exactly, and it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.metrics import R2R_DUET
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig
from sterna.vlnr1.graph_loop import ClosedLoopRunner
from sterna.vlnr1.graph_task import ClosedLoopConfig, ClosedLoopTask
from sterna.vlnr1.objective import ObjectiveConfig
from sterna.vlnr1.walks import WalkReward
from toy import episode_on, graph_of, panoramas_of, tiny_model

CONFIG = ClosedLoopConfig(
    objective=ObjectiveConfig(group=3, kl_weight=0.05, entropy_weight=0.01),
    reward=WalkReward(progress=1.0),
    updates=3,
    imitation=0.1,
    max_steps=4,
)


def runner(
    panoramas: Panoramas,
    episodes: list[Episode],
    folder: Path,
    config: ClosedLoopConfig = CONFIG,
    *,
    rate: float = 1e-3,
    **loop: Any,
) -> ClosedLoopRunner:
    start = tiny_model() if config.objective.kl_weight else None
    task = ClosedLoopTask(tiny_model(), start, panoramas, config, R2R_DUET)
    options = {"iterations": 10, "batch_size": 3, "save_every": 4, "log_every": 1} | loop
    return ClosedLoopRunner(
        task, episodes, folder, LoopConfig(**options), OptimizerConfig(learning_rate=rate)
    )


def state(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / "state.pt", weights_only=True)
    progress = json.loads(content["progress"])
    return {"progress": progress | {"seconds": 0}, "modules": content["modules"]["task"]}


class StoppedError(Exception):
    """The machine went away."""


def test_a_killed_run_goes_on_bit_for_bit(
    panoramas: Panoramas, episodes: list[Episode], tmp_path: Path
) -> None:
    """Saved at 4, between two updates of one batch of walks (3 to 5); stopped at 6."""
    runner(panoramas, episodes, tmp_path / "a").run()
    broken = runner(panoramas, episodes, tmp_path / "b")
    iterate = broken.step

    def failing(number: int) -> Any:
        if number == 6:
            raise StoppedError
        return iterate(number)

    broken.step = failing  # type: ignore[method-assign]
    with pytest.raises(StoppedError):
        broken.run()
    resumed = runner(panoramas, episodes, tmp_path / "b")
    assert resumed.progress.iteration == 4 and resumed.memory.batch is not None  # type: ignore[attr-defined]
    resumed.run()
    a, b = state(tmp_path / "a"), state(tmp_path / "b")
    assert a["progress"] == b["progress"]
    assert all(torch.equal(a["modules"][name], value) for name, value in b["modules"].items())
    logs = [(tmp_path / run / "log.jsonl").read_text() for run in "ab"]
    assert logs[0] == logs[1]
    rows = [json.loads(line) for line in logs[0].splitlines()]
    assert [row["ratio_off"] == 0 for row in rows] == [i % 3 == 0 for i in range(10)]
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[-1]["kl"] > 1e-6
    assert {"reward", "SR", "entropy", "clip_share", "equal_groups", "anchor"} <= rows[0].keys()


def test_settings_of_imitation_are_refused(
    panoramas: Panoramas, episodes: list[Episode], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"loop\.replay belongs to imitation"):
        runner(panoramas, episodes, tmp_path, replay=2)


def star() -> tuple[Panoramas, list[Episode]]:
    """Six rooms around a hall, one of which is meant."""
    angles = np.arange(6) * np.pi / 3
    around = np.stack([4 * np.sin(angles), 4 * np.cos(angles), 0 * angles], 1)
    graph = graph_of(np.concatenate([np.zeros((1, 3)), around]), [(0, i) for i in range(1, 7)])
    return panoramas_of([graph]), [episode_on(graph, [0, 4], i) for i in range(4)]


@pytest.mark.parametrize("updates", [1, 2])
def test_rewards_alone_teach_where_to_go(tmp_path: Path, updates: int) -> None:
    """No expert is heard: from guessing one room in six to going to the one that is meant."""
    panoramas, episodes = star()
    config = ClosedLoopConfig(
        objective=ObjectiveConfig(group=8, kl_weight=0.0, clip_above=0.4),
        updates=updates,
        max_steps=3,
    )
    run = runner(
        panoramas, episodes, tmp_path, config, rate=3e-3, iterations=40, batch_size=4, save_every=40
    )
    run.run()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    reward = np.array([row["reward"] for row in rows])
    assert reward[:4].mean() < 0.7 and reward[-4:].mean() > 1.5
    assert np.mean([row["SR"] for row in rows[-4:]]) > 0.8
    assert rows[-1]["entropy"] < rows[0]["entropy"]
