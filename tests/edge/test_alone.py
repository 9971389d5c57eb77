"""The runtime where there is nothing but numpy, onnxruntime and tokenizers; robots driven by it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.conftest import Exported
from sterna.edge.runtime import Engine, Navigator, Neighbour, Observation
from sterna.errors import InputError

PACKAGE = Path(__file__).parents[2] / "src" / "sterna"
TAKEN = ("__init__.py", "errors.py", "files.py", "edge/__init__.py", "edge/runtime")
TAKEN += ("world/__init__.py", "world/geometry.py")
NEEDED = ("numpy", "onnxruntime", "tokenizers")
PROGRAM = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import numpy as np
from sterna.edge.runtime import Engine, Navigator, Neighbour, Observation
navigator = Navigator(Engine.open(sys.argv[2], "onnx-int8"))
navigator.start("turn left and stop at the red door")
views = np.zeros((36, 32), np.float32)
near = [Neighbour(name="b", position=(0, 2, 0)), Neighbour(name="c", position=(2, 0, 0))]
seen = Observation(node="a", position=(0, 0, 0), heading=0.0, views=views, neighbours=near)
decision = navigator.step(seen)
print(json.dumps([decision.stop, decision.target, sorted(sys.modules)]))
"""


def make_site(root: Path, taken: Sequence[str], needed: Sequence[str]) -> Path:
    """A folder with links to files of sterna and to packages, and nothing else."""
    site = root / "site"
    for name in taken:
        (site / "sterna" / name).parent.mkdir(parents=True, exist_ok=True)
        (site / "sterna" / name).symlink_to(PACKAGE / name)
    for name in needed:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        if not spec.submodule_search_locations:  # a module of one file
            (site / Path(spec.origin).name).symlink_to(spec.origin)
            continue
        found = Path(spec.submodule_search_locations[0])
        for folder in (found, found.parent / f"{name}.libs"):
            if folder.is_dir():
                (site / folder.name).symlink_to(folder)
    return site


def test_runs_where_nothing_else_is_installed(exported: Exported, tmp_path: Path) -> None:
    """A folder with links to three packages and to the files of the runtime, and nothing else."""
    site = make_site(tmp_path, TAKEN, NEEDED)
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, json.dumps([str(site)]), str(exported.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    stop, target, modules = json.loads(run.stdout)
    assert (target == "a") if stop else (target in "bc")
    ours = {name for name in modules if name.startswith("sterna.")}
    assert {name.split(".")[0] for name in modules} & {"torch", "scipy", "h5py", "numba"} == set()
    rooms = {name.split(".")[1] for name in ours}
    assert rooms == {"edge", "errors", "files", "world"}


def observation(node: int, **more: Any) -> Observation:
    """A corridor: nodes 2 m apart along +y, numbered from 0 to 5."""
    rng = np.random.default_rng(node)
    near = [n for n in (node - 1, node + 1) if 0 <= n <= 5]
    return Observation(
        node=f"n{node}",
        position=(0, 2 * node, 0),
        views=rng.standard_normal((36, 32)),
        neighbours=[Neighbour(name=f"n{n}", position=(0, 2 * n, 0)) for n in near],
        **more,
    )


@pytest.fixture
def navigator(exported: Exported) -> Navigator:
    return Navigator(Engine.open(exported.folder))


def test_a_robot_is_driven_to_the_end(navigator: Navigator) -> None:
    for _ in range(2):  # the second episode forgets the first
        navigator.start([1, 5, 9, 2])
        decision = navigator.step(observation(2, heading=0.5))
        stops = {decision.node: decision.stop_probability}
        assert decision.node == "n2" and set(decision.probabilities) == {"n1", "n3"}
        while not decision.stop:
            chances = [decision.stop_probability, *decision.probabilities.values()]
            assert sum(chances) == pytest.approx(1, abs=1e-5)
            assert decision.probability == max(chances)
            assert decision.path[-1] == decision.target and decision.target not in stops
            decision = navigator.step(observation(int(decision.target[1:])))
            stops[decision.node] = decision.stop_probability
        assert decision.target == max(stops, key=lambda node: stops[node])
        assert (decision.path or (decision.node,))[-1] == decision.target
        assert decision.reason in ("chosen", "nothing left")
        with pytest.raises(InputError, match="no episode is under way"):
            navigator.step(observation(2))


def test_a_robot_may_go_elsewhere(navigator: Navigator) -> None:
    """The next observation is of another node than the one decided for; nodes may be met again."""
    navigator.start("go")
    navigator.score(observation(1, heading=0.0))
    navigator.score(observation(2))
    navigator.score(observation(1))
    assert navigator.map.names == ["n1", "n0", "n2", "n3"]
    assert navigator.map.last_visit.tolist() == [2, -1, 1, -1]
    assert navigator.map.named(navigator.score(observation(2)).choices.tolist()) == ("n0", "n3")
    decision = navigator.step(observation(5, heading=0.0))  # carried there: no way back is known
    assert navigator.map.names[-2:] == ["n5", "n4"] and list(decision.probabilities) == ["n4"]
    assert decision.target in ("n4", "n5")


def test_a_place_without_neighbours_ends_the_episode(navigator: Navigator) -> None:
    navigator.start("go")
    views = np.zeros((36, 32))
    decision = navigator.step(Observation(node="x", position=(0, 0, 0), views=views, heading=0.0))
    assert decision.stop and decision.reason == "nothing left" and decision.target == "x"


def test_views_in_other_directions(navigator: Navigator) -> None:
    navigator.start("go")
    seen = observation(0, heading=0.0)
    cameras = {"views": np.ones((4, 32)), "view_headings": np.arange(4) * np.pi / 2}
    some = Observation(**{**vars(seen), **cameras})
    assert np.isfinite(navigator.score(some).logits).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "give a heading"),
        ({"heading": 0.0, "views": np.zeros((35, 32))}, r"expected shape \(36, 32\)"),
        ({"heading": 0.0, "views": np.full((36, 32), np.nan)}, "NaN"),
        ({"heading": 0.0, "position": (0, 0)}, "3 finite metres"),
        (
            {"heading": 0.0, "neighbours": [Neighbour(name="n0", position=(1, 0, 0))]},
            "must differ",
        ),
    ],
)
def test_observations_that_do_not_fit(
    navigator: Navigator, change: dict[str, Any], words: str
) -> None:
    navigator.start("go")
    with pytest.raises(InputError, match=words):
        navigator.step(Observation(**{**vars(observation(0)), **change}))


def test_instructions_that_do_not_fit(navigator: Navigator, exported: Exported) -> None:
    with pytest.raises(InputError, match="no episode"):
        navigator.step(observation(0, heading=0.0))
    with pytest.raises(InputError, match="word id 64 where the policy knows 64"):
        navigator.start([1, 64])
    with pytest.raises(InputError, match="1 to 128 word ids"):
        navigator.start([1] * 129)
    with pytest.raises(InputError, match="max_steps"):
        Navigator(Engine.open(exported.folder), max_steps=0)


def test_the_step_limit_ends_an_episode(exported: Exported) -> None:
    navigator = Navigator(Engine.open(exported.folder), max_steps=1)
    navigator.start("go")
    decision = navigator.step(observation(1, heading=0.0))
    assert decision.stop and decision.reason in ("step limit", "chosen")


def test_looking_ahead_changes_no_decision(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was encoded on the way is used if it is what is seen, bit for bit, and else left."""
    engine, looks = Engine.open(exported.folder), list[int]()
    look = engine.look
    monkeypatch.setattr(engine, "look", lambda tokens: looks.append(1) or look(tokens))
    wanted, ahead = Navigator(engine), Navigator(engine)
    for navigator in (wanted, ahead):
        navigator.start([1, 5, 9, 2])
    seen = observation(2, heading=0.5)
    views = np.array(seen.views)
    views[7, 3] = np.nextafter(np.float32(views[7, 3]), np.float32(9))
    ahead.look_ahead(Observation(**{**vars(seen), "views": views}))
    assert len(ahead.map) == 0 and ahead.steps == 0
    for node, first in ((2, {"heading": 0.5}), (3, {}), (4, {})):
        if node != 2:
            ahead.look_ahead(observation(node))
        count = len(looks)
        scores = ahead.score(observation(node, **first))
        assert len(looks) - count == (node == 2)
        np.testing.assert_array_equal(
            scores.logits, wanted.score(observation(node, **first)).logits
        )
    with pytest.raises(InputError, match="give a heading"):
        ahead.look_ahead(observation(0))  # no way there is known yet
    with pytest.raises(InputError, match="no episode is under way"):
        Navigator(engine).look_ahead(seen)
