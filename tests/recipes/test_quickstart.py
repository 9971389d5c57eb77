"""The whole story in one command, on the smallest houses with the fewest steps; what it chooses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cli_tools import sterna
from sterna.errors import InputError
from sterna.files import read_json
from sterna.metrics import Result
from sterna.models.presets import parameter_counts
from sterna.recipes import houses, makehouses, quickstart
from sterna.recipes.config import TrainConfig
from sterna.recipes.encoder import EncoderConfig
from sterna.recipes.makehouses import HousesConfig
from sterna.recipes.r2r import toy_student, toy_teacher
from sterna.recipes.runs import train
from sterna.recipes.storypage import choose, within
from sterna.recipes.study import Options

Capture = pytest.CaptureFixture[str]
ROWS = ("random", "far-node", "blind", "teacher", "none", "both")
TINY = HousesConfig(
    train=1,
    val_unseen=1,
    paths=12,
    seen_paths=2,
    unseen_paths=4,
    errands=1,
    seen_errands=1,
    unseen_errands=1,
    continuous=False,
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let houses be two, pictures few and trainings short."""
    monkeypatch.setitem(quickstart.quickstart.__kwdefaults__, "houses", TINY)
    few = {"views": 40, "epochs": 1, "held_out": (950_000, 950_001)}
    monkeypatch.setattr(makehouses, "EncoderConfig", lambda **k: EncoderConfig(**(k | few)))


def test_the_whole_story(capsys: Capture, tmp_path: Path, tiny: None) -> None:
    out = tmp_path / "out"
    words = ("quickstart", "--out", out, "--minutes", "0.02", "--workers", "1")
    said = sterna(capsys, *words)
    assert said.code == 0, said.err
    assert "teacher, blind" in said.out and f"page: {out / 'report.html'}" in said.out
    assert (out / "results.txt").read_text("utf-8") == said.out
    values = read_json(out / "results.json")
    assert [row["name"] for row in values["rows"]] == list(ROWS)
    assert all(
        0 <= row["SR_within_1.5m"] <= row["val_unseen"]["SR"]["mean"] for row in values["rows"]
    )
    page = (out / "report.html").read_text("utf-8")
    inner = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert inner is not None
    shown = json.loads(inner[1])
    assert len(shown["episodes"]) == 6 and len(shown["curves"]) == 4
    walks = [walk for episode in shown["episodes"] for walk in episode["walks"]]
    assert {walk["name"] for walk in walks} == {"student, distilled", "teacher"}
    assert all(d["views"] and d["words"] for walk in walks for d in walk["decisions"])
    places = {
        f"{e['scan']}/{d['node']}"
        for e in shown["episodes"]
        for w in e["walks"]
        for d in w["decisions"]
    }
    assert set(shown["strips"]) == places
    assert all(plan["floors"] for plan in shown["plans"].values())
    weights = (out / "both-0" / "last" / "model.safetensors").stat().st_mtime_ns
    again = sterna(capsys, *words, "--json").json
    assert again == read_json(out / "results.json")
    assert (out / "both-0" / "last" / "model.safetensors").stat().st_mtime_ns == weights
    sterna(capsys, "quickstart", "--out", out, "--minutes", "0").refused("--minutes", "positive")
    sterna(capsys, "quickstart", "--data", tmp_path / "none").refused("no data folder")


def test_a_slow_machine_takes_fewer_steps(
    toy_house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that fit, never more than asked; what a run was begun with stays."""
    options = Options(out=tmp_path, seeds=(0,), scale="houses", share=0.5)
    monkeypatch.setattr(
        quickstart, "plan_run", lambda *_, **__: ("", {"seconds_per_iteration": 0.2})
    )

    def pace(folder: str, left: float, workers: int = 2) -> float:
        there = replace(options, out=tmp_path / folder)
        return quickstart._pace(there, toy_house, 10.0, left, workers)

    steps = houses.house_teacher().loop.iterations
    assert pace("fast", 10_000.0) == 0.5
    rest, each = 10 * quickstart._REST, 0.2 * steps
    slow = pace("slow", 200.0 + rest, workers=1)
    assert slow == pytest.approx(200.0 / (quickstart._WORK * each))
    many = pace("many", 100.0 + rest, workers=16)
    assert many == pytest.approx(100.0 / (quickstart._CHAIN * each)), "one waits for another"
    assert pace("slow", 10_000.0) == slow, "a run goes on as it was begun"
    assert pace("late", 0.0) == pytest.approx(0.05)
    with pytest.raises(InputError, match="begun with --minutes 10"):
        quickstart._pace(replace(options, out=tmp_path / "slow"), toy_house, 5.0, 9.0, workers=2)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state in /proc")
def test_helpers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os, threading, time\n"
        "from sterna.recipes.quickstart import end_with_parent\n"
        "def work():\n"
        "    threading.Thread(target=end_with_parent, daemon=True).start()\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(100)\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.get_context('spawn').Process(target=work).start()\n"
        "    time.sleep(100)\n",
        "utf-8",
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        assert _runs(helper)
        parent.kill()
    deadline = time.monotonic() + 30
    while _runs(helper):
        assert time.monotonic() < deadline, "it goes on alone"
        time.sleep(0.1)


def _runs(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_r2r_must_be_whole(toy_house: Path, capsys: Capture, tmp_path: Path) -> None:
    said = sterna(capsys, "quickstart", "--data", toy_house, "--out", tmp_path / "out")
    said.refused("observations_list_summarized")


def test_students_are_small() -> None:
    for teacher, student in (
        (toy_teacher(), toy_student()),
        (houses.house_teacher(), houses.house_student()),
    ):
        sizes = [parameter_counts(config.model)["total"] for config in (teacher, student)]
        assert sizes[1] <= 0.125 * sizes[0]


def _result(successes: list[int], scans: list[str]) -> Result:
    table = {
        "instr_id": [f"{i}_0" for i in range(len(scans))],
        "path_id": list(range(len(scans))),
        "scan": scans,
        "SR": [float(s) for s in successes],
        "NE": [0.0 if s else 2.0 for s in successes],
    }
    return _bare(table)


def _bare(table: dict[str, list[object]]) -> Result:
    result = object.__new__(Result)
    object.__setattr__(result, "per_episode", table)
    return result


def test_episodes_of_all_outcomes_and_scans_are_shown() -> None:
    scans = ["a", "a", "b", "b", "c", "c"]
    student, teacher = _result([1, 1, 1, 0, 0, 0], scans), _result([1, 1, 0, 1, 0, 0], scans)
    chosen = choose(student, teacher, 4)
    assert chosen[:4] == ["0_0", "2_0", "3_0", "1_0"]
    assert sorted(choose(student, teacher, 99)) == sorted(f"{i}_0" for i in range(6))
    assert within(student, 1.5) == pytest.approx(0.5)


def _learn(config: TrainConfig, world: Path, out: Path, *, blind: bool) -> dict[str, float]:
    loop = replace(config.loop, iterations=110, warm_start=110, eval_every=110, save_every=110)
    data = replace(config.data, blind=blind)
    train(replace(config, loop=loop, data=data), world, out)
    scores: dict[str, float] = read_json(out / "run.json")["scores"][-1]
    return scores


def test_the_toy_teacher_learns_and_needs_its_eyes(toy_house: Path, tmp_path: Path) -> None:
    sighted = _learn(toy_teacher(), toy_house, tmp_path / "sighted", blind=False)
    blind = _learn(toy_teacher(), toy_house, tmp_path / "blind", blind=True)
    assert sighted["SR"] > 0.75 and sighted["SR"] > blind["SR"] + 0.25
