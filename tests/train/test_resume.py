"""Resume is exact: weights, optimiser, log; after a clean stop and after SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from sterna.errors import InputError
from sterna.train.checkpoint import CheckpointError
from sterna.train.loop import Trainer
from toy_run import toy_trainer

TESTS = Path(__file__).parents[1]


def same(a: Any, b: Any) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def state(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / "state.pt", weights_only=True)
    content["progress"] = {
        k: v for k, v in json.loads(content["progress"]).items() if k != "seconds"
    }
    return content  # type: ignore[no-any-return]


class StoppedError(Exception):
    """The machine went away."""


def run_until(trainer: Trainer, iteration: int) -> None:
    """Run and fail before an iteration."""
    iterate = trainer.step

    def failing(number: int) -> Any:
        if number == iteration:
            raise StoppedError
        return iterate(number)

    trainer.step = failing  # type: ignore[method-assign]
    with pytest.raises(StoppedError):
        trainer.run()


@pytest.mark.parametrize(
    ("distil", "replay", "ahead", "average"),
    [
        (False, 0, 1, 0.0),
        (True, 0, 1, 0.0),
        (False, 2, 1, 0.0),
        (True, 2, 1, 0.9),
        (False, 0, 2, 0.0),
        (True, 1, 3, 0.0),
    ],
)
def test_ten_and_ten_are_twenty(
    toy_house: Path, tmp_path: Path, *, distil: bool, replay: int, ahead: int, average: float
) -> None:
    """Stopped at 13, saved at 10 (batches walked ahead wait there): then 10 to 19 again."""
    how = {"distil": distil, "replay": replay, "ahead": ahead, "average": average}
    unbroken = toy_trainer(toy_house, tmp_path / "a", **how)
    unbroken.run()
    run_until(toy_trainer(toy_house, tmp_path / "b", **how), 13)
    resumed = toy_trainer(toy_house, tmp_path / "b", **how)
    assert resumed.progress.iteration == 10
    resumed.run()
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))
    logs = [(tmp_path / run / "log.jsonl").read_text() for run in "ab"]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 20
    moved = [p for p in unbroken.task.policy.parameters() if p.grad is not None and p.grad.any()]
    assert len(moved) > 30, "the test should train something"


def start(world: Path, folder: Path, iterations: int) -> subprocess.Popen[bytes]:
    code = [sys.executable, str(TESTS / "toy_run.py"), str(world), str(folder), str(iterations)]
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        code, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors.decode()[-2000:]


def test_kill_9_in_the_middle(toy_house: Path, tmp_path: Path) -> None:
    """A process killed without warning, then the same command again: the same bits."""
    whole = start(toy_house, tmp_path / "whole", 40)
    finish(whole)
    broken, log = start(toy_house, tmp_path / "broken", 40), tmp_path / "broken" / "log.jsonl"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and broken.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) >= 12:
            break
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.communicate()
    assert broken.returncode == -signal.SIGKILL
    reached = state(tmp_path / "broken")["progress"]["iteration"]
    assert 5 <= reached < 40
    finish(start(toy_house, tmp_path / "broken", 40))
    assert same(state(tmp_path / "whole"), state(tmp_path / "broken"))


def test_truncated_state_is_refused(toy_house: Path, tmp_path: Path) -> None:
    toy_trainer(toy_house, tmp_path, 5).run()
    file = tmp_path / "state.pt"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="not a whole training state"):
        toy_trainer(toy_house, tmp_path, 5)


def test_state_of_another_model_is_refused(toy_house: Path, tmp_path: Path) -> None:
    toy_trainer(toy_house, tmp_path, 5, distil=True).run()
    with pytest.raises(CheckpointError, match=r"extra      text_map\.weight"):
        toy_trainer(toy_house, tmp_path, 5)


def test_another_configuration_is_refused(toy_house: Path, tmp_path: Path) -> None:
    toy_trainer(toy_house, tmp_path, 5, config={"seed": 0, "rate": 1.0}).run()
    assert toy_trainer(toy_house, tmp_path, 5, config={"seed": 0, "rate": 1.0})
    with pytest.raises(InputError, match=r"another .* \(different: rate 1.0, asked for 2"):
        toy_trainer(toy_house, tmp_path, 5, config={"seed": 0, "rate": 2.0})


def test_a_setting_that_came_later_was_its_default(toy_house: Path, tmp_path: Path) -> None:
    toy_trainer(toy_house, tmp_path, 5, config={"loop": {"seed": 0}}).run()
    later = {"loop": {"seed": 0, "kind": "old"}}
    defaults = {"loop": {"seed": 7, "kind": "old"}}
    assert toy_trainer(toy_house, tmp_path, 5, config=later, defaults=defaults)
    later["loop"]["kind"] = "new"
    with pytest.raises(InputError, match=r"different: loop.kind 'old', asked for 'new'\)"):
        toy_trainer(toy_house, tmp_path, 5, config=later, defaults=defaults)


def test_a_finished_run_does_nothing_more(toy_house: Path, tmp_path: Path) -> None:
    toy_trainer(toy_house, tmp_path, 5).run()
    content = (tmp_path / "state.pt").read_bytes()
    assert toy_trainer(toy_house, tmp_path, 5).run().iteration == 5
    assert (tmp_path / "state.pt").read_bytes() == content
