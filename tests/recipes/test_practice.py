"""`sterna grpo` for navigators, and VLN-R1's studies: from fine-tuning to practice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="navigators need transformers: sterna[vlm]")

from cli_tools import sterna
from sterna.data.ego.samples import EgoSamples
from sterna.data.ego.store import EgoStore
from sterna.metrics import R2R_CE, Result, Trace, continuous_scores, write_result
from sterna.metrics.result import estimates
from sterna.models.navigator.folder import load
from sterna.recipes.practice import SamplesConfig, practised_rows
from sterna.recipes.sft import run_sft
from sterna.recipes.vlnr1 import (
    ROWS,
    Options,
    folder_of,
    render,
    result_file,
    rows_of,
    steps,
    table,
)
from toy_sft import toy_run, toy_store

SHORT = (
    *("--iterations", "2", "--loop.batch-size", "3", "--loop.eval-every", "2"),
    *("--loop.save-every", "1", "--loop.log-every", "1", "--grpo.objective.group", "3"),
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Walks, and a navigator that was fine-tuned on them for a moment."""
    folder = tmp_path_factory.mktemp("tuned")
    store = toy_store(folder / "walks", walks=4)
    run_sft(toy_run(store.folder, 4), folder / "sft")
    return store.folder, folder / "sft" / "last"


def test_a_navigator_practises(
    capsys: pytest.CaptureFixture[str], tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    walks, policy = tuned
    words = ("grpo", "navigator-s", "--policy", policy, "--samples.train", walks)
    held_out = ("--samples.held-out", walks, "--samples.drawn", 8)
    said = sterna(capsys, *words, *held_out, "--out", tmp_path / "a", *SHORT, "--json").json
    assert said["iteration"] == 2 and said["scores"][-1]["nll"] > 0
    kept = load(tmp_path / "a" / "last")
    assert kept.wording == load(policy).wording
    lines = [json.loads(x) for x in (tmp_path / "a" / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and all(len(line["rewards"]) == 3 for line in lines)
    twice = ("--samples.more", walks, "--reward.shape", "hard")
    hard = sterna(capsys, *words, "--out", tmp_path / "b", *SHORT, *twice)
    assert hard.code == 0
    lines = [json.loads(x) for x in (tmp_path / "b" / "answers.jsonl").read_text().splitlines()]
    assert {value for line in lines for value in line["rewards"]} <= {0.0, 1.0}


def test_what_it_refuses(
    capsys: pytest.CaptureFixture[str], tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ("grpo", "navigator-s", "--out", tmp_path / "x", *SHORT)
    sterna(capsys, *words).refused("no navigator to improve", "--policy")
    sterna(capsys, *words, "--policy", tuned[0]).refused("navigator.json")
    apart = sterna(capsys, *words, "--policy", tuned[1], "--grpo.updates", "2")
    apart.refused("multiple of the 2")
    walks = ("grpo", "navigator-s-walks", "--policy", tuned[1], "--out", tmp_path / "x")
    sterna(capsys, *walks, "--env.execute", "2").refused("--execute 2")


def test_rows_that_begin_alike_share_their_start(tmp_path: Path) -> None:
    options = Options(out=tmp_path, walks=tmp_path / "walks", seeds=(0, 1))
    names = {name: [s.name for s in steps(name, options, None, 1)] for name in ROWS}
    assert all(found.count("sft-0") == 1 for found in names.values())
    assert "sft-average-8-1" in names["vlnr1-memory"] and "sft-4-0" in names["vlnr1-actions"]
    # Groups of 8 with the decayed reward are the same run in two tables.
    shared = set(names["vlnr1-reward"]) & set(names["vlnr1-group"])
    assert {"grpo-decayed-0", "grpo-decayed-1", "grpo-decayed-0/eval"} <= shared
    for name in ROWS:
        assert len({row.folder for row in rows_of(name)}) == len(ROWS[name])
        needs = {s.name: s.needs for s in steps(name, options, None, 1)}
        assert all(need in needs for wanted in needs.values() for need in wanted)


def test_studies_say_their_steps(
    capsys: pytest.CaptureFixture[str], tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ("study", "vlnr1-group", "--data", tmp_path, "--out", tmp_path / "s", "--seeds", 0)
    sterna(capsys, *words, "--plan").refused("no walks", "sterna ego make")
    said = sterna(capsys, *words, "--walks", tuned[0], "--plan", "--json").json
    assert [step["name"] for step in said["steps"]][:2] == ["sft-0", "sft-0/eval"]
    assert not any(step["done"] for step in said["steps"])


def test_a_study_begins_with_a_navigator_that_stands(
    capsys: pytest.CaptureFixture[str], tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    """Nothing is fine-tuned; it is walked once, and every row and seed practises from it."""
    options = Options(out=tmp_path, walks=tuned[0], seeds=(0, 1), policy=tuned[1])
    found = {step.name: step for step in steps("vlnr1-group", options, None, 1)}
    assert [name for name in found if name.startswith("sft")] == ["sft/eval"]
    assert found["grpo-group-2-1"].needs == () and found["sft/eval"].needs == ()
    assert found["grpo-group-2-1/eval"].needs == ("grpo-group-2-1",)
    for r, row in enumerate(rows_of("vlnr1-group")):
        for seed in options.seeds:
            walked = [0.0 if (e + r + seed) % 5 else 2.5 for e in range(10)]
            write_result(result_file(options, folder_of(row, seed, options)), result_of(walked))
    values = table("vlnr1-group", options)
    assert [row["seeds"] for row in values["rows"]] == [1, 2, 2, 2, 2]
    assert values["rows"][0]["val_unseen"]["SR"]["seed_error"] is None
    seen = []
    options = replace(options, more=tuned, change=lambda run: seen.append(run) or run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sterna.recipes.vlnr1.prepare_offline", lambda run, out: run)
        patch.setattr("sterna.recipes.vlnr1.run_practice", lambda ready, out, threads: out)
        next(s for s in steps("vlnr1-group", options, None, 1) if s.name == "grpo-group-2-1").run()
    assert (seen[0].policy, seen[0].samples.train) == (tuned[1], tuned[0])
    assert seen[0].samples.more == tuned
    words = ("study", "vlnr1-memory", "--walks", tuned[0], "--policy", tuned[1], "--plan")
    drawn = ("--episodes", "a.json.gz", "--practised", "b.json.gz")
    sterna(capsys, *words, *drawn).refused("vlnr1-memory", "leave --policy out")


def test_the_share_of_samples_that_stop(
    capsys: pytest.CaptureFixture[str], tuned: tuple[Path, Path], tmp_path: Path
) -> None:
    samples = EgoSamples(EgoStore(tuned[0]), 6)
    stops = (samples.targets() == 0).any(1)
    assert stops.tolist() == [bool((s.actions == 0).any()) for s in samples]
    for share in (0.2, 0.5, 0.9):
        rows = practised_rows(samples, SamplesConfig(stops=share), 3)
        assert rows is not None and len(set(rows)) == len(rows) and (np.diff(rows) > 0).all()
        assert abs(stops[rows].mean() - share) <= 1 / len(rows)
        # One of the two kinds is whole.
        assert stops[rows].sum() == stops.sum() or (~stops[rows]).sum() == (~stops).sum()
    few = practised_rows(samples, SamplesConfig(stops=0.5, drawn=4), 3)
    assert few is not None and len(few) == 4
    assert practised_rows(samples, SamplesConfig(), 3) is None
    words = ("grpo", "navigator-s", "--policy", tuned[1], "--samples.train", tuned[0])
    sterna(capsys, *words, "--out", tmp_path, "--samples.stops", 1).refused("between 0 and 1")
    both = ("--samples.more", tuned[0], "--samples.cache", tmp_path / "seen")
    sterna(capsys, *words, "--out", tmp_path, *both).refused("leave it out beside more")


def test_options_reach_the_runs(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    """A study's fine-tuning is the recipe's, with its seed, its length and the row's difference."""
    seen = []
    options = Options(
        out=tmp_path, walks=tuned[0], seeds=(3,), iterations=7, change=lambda r: seen.append(r) or r
    )
    step = next(s for s in steps("vlnr1-memory", options, None, 1) if s.name == "sft-average-8-3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sterna.recipes.vlnr1.run_sft", lambda run, out, threads: out)
        step.run()
    (run,) = seen
    assert (run.walks.memory, run.walks.budget, run.loop.seed, run.loop.iterations) == (
        "average", 8, 3, 7,
    )  # fmt: skip


def test_the_table_is_made_of_result_files(tmp_path: Path) -> None:
    """Scores of walks in a row of metres, some of which reach the goal at 3 m; by hand."""
    options = Options(out=tmp_path, walks=tmp_path, seeds=(0, 1))
    for r, row in enumerate(rows_of("vlnr1-group")):
        for seed in options.seeds:
            walked = [2.5 if (e + r + seed) % 5 else 0.0 for e in range(10)]
            write_result(result_file(options, f"{row.folder}-{seed}"), result_of(walked))
    values = table("vlnr1-group", options)
    rates = [row["val_unseen"]["SR"]["mean"] for row in values["rows"]]
    assert rates == pytest.approx([0.8] * 5)
    text = render(values)
    # SR and SPL at 1 m come before SR.
    none = "0.00 ± 0.00"
    assert f"| GRPO, groups of 8 | 2 | {none} | {none} | 80.00 ± 0.00 |" in text
    assert text.count("- sft |") == 4


def result_of(walked: list[float]) -> Result:
    places = [np.array([[0.0, 0, 0], [metres, 0, 0], [metres, 0, 0]]) for metres in walked]
    traces = [
        Trace(
            name=str(i),
            positions=positions,
            to_goal=5.0 - positions[:, 0],
            stopped=True,
            reference=np.array([[0.0, 0, 0], [5, 0, 0]]),
            geodesic=5.0,
        )
        for i, positions in enumerate(places)
    ]
    names = [str(i) for i in range(len(traces))]
    scores = {k: v.tolist() for k, v in continuous_scores(traces, R2R_CE).items()}
    columns = {"instr_id": names, "path_id": names, "scan": ["a", "b"] * 5, **scores}
    return Result(
        protocol=R2R_CE,
        scores=estimates(columns),
        episodes=10,
        expected=10,
        split="val_unseen",
        per_episode=columns,
    )
