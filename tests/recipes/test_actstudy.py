"""Studies of ActDistill, end to end at a toy scale; their rows and their picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.models.pretrained import save_pretrained
from sterna.recipes import actstudy
from sterna.recipes.actdistill import deep_toy_teacher
from sterna.recipes.actstudy import (
    FULL,
    STUDIES,
    Options,
    config_of,
    curve,
    rows_of,
    run_study,
    steps,
)
from sterna.recipes.start import begin
from sterna.recipes.world import World
from sterna.show.curves import curves_scene
from sterna.show.gates import gates_scene
from sterna.show.scene import Disc, Text


def small(run: Any) -> Any:
    """Sizes for seconds."""
    return replace(
        run,
        episodes=4,
        held_out=3,
        graph=replace(run.graph, width=8, size=6),
        router=replace(run.router, width=8),
        loop=replace(run.loop, batch_size=4),
        probe=replace(run.probe, batch_size=4),
    )


@pytest.fixture(scope="module")
def options(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Options:
    recipe = deep_toy_teacher()
    sizes = replace(
        recipe.model, hidden_size=16, heads=2, ffn_size=16, language_layers=2, cross_layers=3
    )
    model = begin(sizes, replace(recipe.start, still=False), 0, World(toy_house, recipe.data))
    teacher = save_pretrained(model.eval(), tmp_path_factory.mktemp("teacher") / "best")
    return Options(
        out=tmp_path_factory.mktemp("study"),
        teacher=teacher,
        seeds=(0, 1),
        iterations=2,
        probe_iterations=2,
        split="val_seen",
        about=3,
        draws=1,
        change=small,
    )


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row and one budget row: the machinery is the same for all."""
    monkeypatch.setitem(STUDIES, "actdistill-graph", (FULL, actstudy.GRAPH[3]))


def test_a_study_from_teacher_to_table(
    two_rows: None, options: Options, toy_house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, values = run_study("actdistill-graph", options, toy_house, only=("probe-*",))
    assert "done" in text and len(values["steps"]) == 16  # 2 rows, 2 seeds, 4 steps each
    text, values = run_study("actdistill-graph", options, toy_house)
    arms = [(row["row"], row["arm"]) for row in values["rows"]]
    others = ["first-k", "cosine", "greedy", "random-k"]
    wanted = ["teacher", "student", *others]
    assert arms == [*(("full", arm) for arm in wanted), ("bare", "student")]
    rows = {(row["row"], row["arm"]): row for row in values["rows"]}
    assert rows["full", "teacher"]["share"] == pytest.approx(1.0)
    for row in values["rows"]:
        found = row["scores"]["SR"]
        each = found["per_seed"]
        assert len(each) == 2 and found["mean"] == pytest.approx(np.mean(each))
        assert found["error"] == pytest.approx(np.std(each, ddof=1) / 2**0.5)
        assert len(row["open"]) == len(values["units"]) == 8
    first = rows["full", "student"]["minus_first"]
    assert first == {"mean": 0.0, "error": 0.0}
    gap = np.subtract(
        rows["bare", "student"]["per_episode"], rows["full", "student"]["per_episode"]
    )
    assert rows["bare", "student"]["minus_first"]["mean"] == pytest.approx(gap.mean())
    over = np.subtract(
        rows["full", "teacher"]["per_episode"], rows["full", "student"]["per_episode"]
    )
    assert rows["full", "teacher"]["minus_first"]["mean"] == pytest.approx(over.mean())
    kept = json.loads((options.out / "actdistill-graph.json").read_text())
    assert kept["rows"] == values["rows"] and "no graph at all" in text
    assert (options.out / "actdistill-graph.png").read_bytes()[:4] == b"\x89PNG"

    def never(*given: Any, **more: Any) -> None:
        raise AssertionError("what is there is not done again")

    for name in ("run_probe", "run_distill", "run_calibrate", "run_eval"):
        monkeypatch.setattr(actstudy, name, never)
    again, _ = run_study("actdistill-graph", options, toy_house)
    assert again == text


def _configs(name: str, options: Options) -> dict[str, Any]:
    plain = replace(options, change=lambda run: run)
    return {row.name: config_of(row, plain, 3) for row in rows_of(name)}


@pytest.mark.parametrize(
    ("study", "row", "value", "wanted"),
    [
        ("actdistill-graph", "mean", lambda run: run.graph.tokens, False),
        ("actdistill-graph", "flat", lambda run: run.graph.layers, False),
        ("actdistill-losses", "no-previous", lambda run: run.losses.previous, False),
        ("actdistill-losses", "gamma-0", lambda run: run.losses.gamma, 0.0),
        ("actdistill-losses", "paper", lambda run: run.losses.variant, "paper"),
        ("actdistill-router", "no-text", lambda run: run.router.text, False),
        ("actdistill-router", "topk", lambda run: run.route.gate, "topk"),
        ("actdistill-budget", "many", lambda run: run.route.lowest, 0.25),
        ("actdistill-budget", "rho-0.35", lambda run: run.route.rho, 0.35),
    ],
)
def test_rows_differ_in_what_they_say(
    options: Options, study: str, row: str, value: Callable[[Any], Any], wanted: Any
) -> None:
    configs = _configs(study, options)
    assert value(configs[row]) == wanted
    same = {name for name, config in configs.items() if value(config) == wanted}
    assert row in same and len(same) <= 2, "rows alike would say nothing"
    assert {config.loop.seed for config in configs.values()} == {3}


def test_rows_share_probes_and_trainings(options: Options, toy_house: Path) -> None:
    names = {study: [step.name for step in steps(study, options, toy_house)] for study in STUDIES}
    losses = names["actdistill-losses"]
    assert losses.count("probe-full-0") == 1 and "probe-paper-1" in losses
    assert "full-0" in names["actdistill-graph"] and "full-0" in losses
    with pytest.raises(InputError, match="is unknown; choose one of actdistill-graph"):
        rows_of("actdistill-none")
    with pytest.raises(InputError, match="is none of toy-duet"):
        config_of(FULL, replace(options, recipe="none"), 0)


def test_the_picture_of_gates() -> None:
    rows = [{"label": "one", "open": [1.0, 0.25]}, {"label": "two", "open": [1.0, 0.0]}]
    scene = gates_scene(rows, ["local 0", "local 1"], "Layers")
    texts = [
        shape.text for layer in scene.layers for shape in layer.shapes if isinstance(shape, Text)
    ]
    assert texts.count("100") == 2 and {"25", "0", "one", "two"} <= set(texts)


def test_a_curve_has_a_line_an_arm() -> None:
    """The arms' points, and a picture that grows with what is in it."""

    def row(arm: str, name: str, share: float, mean: float) -> dict[str, Any]:
        return {
            "arm": arm,
            "row": name,
            "share": share,
            "scores": {"SR": {"mean": mean, "error": 0.02}},
        }

    rows = [
        row("student", "many", 0.5, 0.6),
        row("student", "many", 1.0, 0.7),
        row("teacher", "many", 1.0, 0.75),
        row("student", "rho-0.5", 0.5, 0.65),
    ]
    score, arms = curve({"rows": rows})
    assert score == "SR" and list(arms) == ["one model", "a model a budget", "teacher"]
    assert [point["share"] for point in arms["one model"]] == [0.5, 1.0]
    scene = curves_scene(arms, "title", score)
    marks = [s for s in scene.layers[2].shapes if isinstance(s, Disc)]
    assert len(marks) == 4
    spot = {(round(m.centre[0]), round(m.centre[1])) for m in marks}
    assert len(spot) == 4
    # The first arm lies on top. Dearer is farther right, better is higher.
    (left, lower), (right, upper) = (m.centre for m in marks[-2:])
    assert right > left and upper < lower
    names = [s.text for s in scene.layers[3].shapes if isinstance(s, Text)]
    assert sorted(names) == sorted(arms)
    twice = curves_scene(arms | {"greedy": arms["teacher"]}, "title", score)
    assert "teacher = greedy" in [s.text for s in twice.layers[3].shapes if isinstance(s, Text)]
