"""What policies cost: arithmetic against formulas, engines against each other, the command."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cli_tools import sterna
from edge.conftest import Exported
from sterna.edge.bench.episode import Shape, observations, word_ids
from sterna.edge.bench.flops import count_flops
from sterna.edge.bench.process import Arm, Plan, Record, measure
from sterna.edge.bench.table import markdown, rows_of
from sterna.edge.bench.torch_engine import TorchEngine
from sterna.edge.runtime import Engine, Navigator, Scores
from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.config import DuetConfig
from sterna.recipes.latency import run_latency
from sterna.recipes.subjects import read_ask
from sterna.show.bars import bars_scene
from toy import TINY, tiny_model

Capture = pytest.CaptureFixture[str]
SHAPE = Shape(steps=3, words=9, views=12, objects=2)
DEEP = replace(
    TINY, language_layers=2, panorama_layers=2, cross_layers=3, object_size=5, hidden_size=20
)


def walk(engine: Engine, shape: Shape) -> list[Scores]:
    navigator = Navigator(engine, max_steps=shape.steps)
    navigator.start(word_ids(shape, int(engine.manifest.sizes["vocab_size"])))
    seen = observations(shape, engine.feature_size, engine.object_size)
    return [navigator.score(one) for one in seen]


def test_the_map_grows_as_along_r2r_paths() -> None:
    """Means over the reference paths of R2R val_unseen: 4.6 nodes at step 1, 18.5 at step 7."""
    nodes, places, degrees = [], set(), []
    for seen in observations(Shape(), 4):
        places |= {seen.node, *(near.name for near in seen.neighbours)}
        nodes.append(len(places))
        degrees.append(len(seen.neighbours))
    assert np.abs(np.subtract(nodes, [4.6, 6.9, 9.2, 11.6, 14.0, 16.3, 18.5])).max() <= 0.51
    assert degrees == [4, 4, 4, 5, 4, 4, 5]
    engine = TorchEngine(tiny_model().eval())
    assert [len(s.choices) + 1 + i for i, s in enumerate(walk(engine, Shape()))] == nodes


def expected_flops(sizes: DuetConfig, shape: Shape) -> tuple[int, list[int]]:
    """Count the matrix products on paper: 2 a b c for one of a x b by b x c."""
    d, f, layers, words = sizes.hidden_size, sizes.ffn_size, sizes.cross_layers, shape.words

    def block(tokens: int) -> int:  # self-attention and feed-forward
        return 2 * tokens * d * d * 4 + 4 * tokens * tokens * d + 4 * tokens * d * f

    def cross(tokens: int, kept: int) -> int:
        of_text = 4 * tokens * d * d + 4 * tokens * words * d
        whole = of_text + block(tokens)
        last = of_text + 6 * tokens * d * d + 4 * kept * tokens * d
        return (layers - 1) * whole + last + 2 * kept * d * d + 4 * kept * d * f

    def head(tokens: int, inputs: int = d) -> int:
        return 2 * tokens * inputs * d + 2 * tokens * d

    text = sizes.language_layers * block(words) + 2 * layers * 2 * (2 * words * d * d)
    things = 0 if sizes.object_size is None else shape.objects
    steps, places = [], set()
    for step, seen in enumerate(observations(shape, 1)):
        near = len(seen.neighbours)
        places |= {seen.node, *(n.name for n in seen.neighbours)}
        slots, choices = 1 + len(places), len(places) - step
        used = {view_of(n.position, seen.position, shape.views) for n in seen.neighbours}
        views = near + shape.views - len(used)
        tokens = views + things
        looked = 2 * views * sizes.feature_size * d + 2 * tokens * 7 * d
        looked += 2 * things * (sizes.object_size or 0) * d + sizes.panorama_layers * block(tokens)
        placed = 2 * (1 + near) * 14 * d + 2 * slots * 7 * d
        read = 1 + near + things
        decided = cross(1 + tokens, read) + cross(slots, choices)
        heads = head(1 + near) + head(choices) + head(1, 2 * d)
        heads += 0 if sizes.object_size is None else head(read)
        steps.append(looked + placed + decided + heads)
    return text, steps


def view_of(place: Any, here: Any, views: int) -> int:
    """Return the view of a level ring that is nearest to a direction."""
    east, north = (np.asarray(place) - here)[:2]
    return round(np.arctan2(east, north) % (2 * np.pi) / (2 * np.pi) * views) % views


@pytest.mark.parametrize("sizes", [TINY, DEEP], ids=["tiny", "deep with objects"])
def test_flops_are_those_counted_on_paper(sizes: DuetConfig) -> None:
    flops = count_flops(tiny_model(0, sizes), SHAPE)
    text, steps = expected_flops(sizes, SHAPE)
    assert (flops.text, list(flops.steps)) == (text, steps)
    assert flops.episode == text + sum(steps) and flops.step == sum(steps) / len(steps)


def test_torch_and_exports_decide_alike(exported: Exported, grounded: Exported) -> None:
    for policy in (exported, grounded):
        ours = walk(TorchEngine(policy.model), SHAPE)
        theirs = walk(Engine.open(policy.folder), SHAPE)
        for a, b in zip(ours, theirs, strict=True):
            assert (a.choices == b.choices).all() and a.object_id == b.object_id
            assert np.abs(a.logits - b.logits).max() < 1e-4


def test_graphs_compile_whole_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No break in any graph, and none compiled anew while the map grows."""
    torch._dynamo.reset()
    graphs: list[Any] = []

    def compiler(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    model = tiny_model(0, DEEP).eval()
    shape = replace(SHAPE, steps=6)
    engine = TorchEngine(model, compiled=True)
    ours, plain = walk(engine, shape), walk(TorchEngine(model), shape)
    assert len(graphs) == 3
    walk(engine, replace(shape, words=13, views=36))
    assert len(graphs) == 3
    assert max(np.abs(a.logits - b.logits).max() for a, b in zip(ours, plain, strict=True)) < 1e-5
    torch._dynamo.reset()


def test_torch_knows_no_words_and_no_threads() -> None:
    with pytest.raises(InputError, match="word ids"):
        Navigator(TorchEngine(tiny_model().eval())).start("go")
    with pytest.raises(InputError, match="threads must be at least 1"):
        TorchEngine(tiny_model().eval(), threads=0)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: torch.compile not run")
@pytest.mark.timeout(900)
def test_torch_compile_in_a_process_of_its_own(exported: Exported, tmp_path: Path) -> None:
    policy = exported.policy / "best"
    arms = [Arm(model="m", engine=e, threads=1, folder=policy) for e in ("torch", "torch-compile")]
    plain, compiled = measure(arms, SHAPE, Plan(rounds=1, episodes=1, progress=False), tmp_path)
    assert np.allclose(plain.ready["chances"][-1], compiled.ready["chances"][-1], atol=1e-5)
    assert compiled.ready["first_s"] > plain.ready["first_s"]
    assert list((tmp_path / "arm1" / "compiled").rglob("*.so")), "compiled outside its own folder"


@pytest.fixture(scope="module")
def measured(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A policy in torch, what is exported of it here, and the export that was there."""
    out = tmp_path_factory.mktemp("latency")
    asked = [f"{exported.policy}:torch,onnx", str(exported.folder)]
    plan = Plan(rounds=2, episodes=2, progress=False)
    return run_latency(asked, out, threads=[1], shape=SHAPE, plan=plan)


def test_rows_of_a_run(measured: dict[str, Any], exported: Exported) -> None:
    rows = measured["rows"]
    assert [row["engine"] for row in rows] == ["torch", "onnx", "onnx", "onnx-int8"]
    assert [row["model"] for row in rows] == [str(exported.policy)] * 2 + [str(exported.folder)] * 2
    assert measured["reference"] == f"{exported.policy} torch"
    weights = (exported.policy / "best" / "model.safetensors").stat().st_size
    graphs = exported.card["bytes"]
    sizes = [row["file_MB"] * 1e6 for row in rows]
    assert sizes == pytest.approx([weights, sizes[1], graphs["onnx"], graphs["onnx-int8"]])
    assert sizes[1] == pytest.approx(graphs["onnx"], rel=0.02)  # exported here, once more
    for row in rows:
        assert row["parameters"] == sum(p.numel() for p in exported.model.parameters())
        assert (row["flops_episode"], row["flops_step"]) == (
            (flops := count_flops(exported.model, SHAPE)).episode,
            flops.step,
        )
        episode, step, text = (row[f"{name}_ms"] for name in ("episode", "step", "text"))
        assert 0 < episode["least"] <= episode["median"] <= episode["p95"]
        assert episode["least"] >= SHAPE.steps * step["least"] + text["least"]
        assert 0 < row["resident_MB"] <= row["peak_MB"] and row["open_s"] > 0
        assert row["torch_loaded"] == (row["engine"] == "torch")
    assert max(row["peak_MB"] for row in rows[1:]) < rows[0]["peak_MB"]
    assert rows[0]["faster"] == rows[0]["faster_than_own"] == {"median": 1, "least": 1, "most": 1}


def test_exports_decide_as_their_policy(measured: dict[str, Any]) -> None:
    torch_row, onnx = measured["rows"][:2]
    for row in (torch_row, onnx):
        assert row["same_decisions"] == row["decisions"] == SHAPE.steps
    assert torch_row["largest_difference"] == 0 < onnx["largest_difference"] < 1e-4
    assert measured["rows"][2]["largest_difference"] == 0  # a model is compared with its own first


def test_files_of_a_run(measured: dict[str, Any]) -> None:
    data, text, picture = measured["files"]
    assert read_json(data) == {k: v for k, v in measured.items() if k != "files"}
    written = Path(text).read_text("utf-8")
    assert written.startswith(markdown(measured))
    table = [line for line in written.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(measured["rows"]) and len({t.count("|") for t in table}) == 1
    with Image.open(picture) as image:
        assert image.size == (1240, bars_scene(measured).height)
        assert len(set(image.convert("RGB").tobytes())) > 20


def record(engine: str, threads: int, ms: list[list[float]], model: str = "m") -> Record:
    """A record of made-up times; the last of three chances is the larger the slower."""

    def one(t: float) -> dict[str, Any]:
        return {"episode": t / 1e3, "cpu": t / 1e3, "text": 0.0, "steps": [t / 2e3] * 2}

    said = {"import_s": 1, "open_s": 1, "first_s": 1, "torch": False}
    chances = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1] if engine == "a" else [0.7, 0.2, 0.1]]
    turns = [{"walks": [one(t) for t in turn], "peak_MB": 9.0, "resident_MB": 8.0} for turn in ms]
    arm = Arm(model=model, engine=engine, threads=threads, folder=Path())
    return Record(arm=arm, ready=said | {"chances": chances}, turns=turns)


def test_medians_and_ratios() -> None:
    """The second round is twice as slow for all: ratios stay."""
    records = [
        record("a", 1, [[40, 40, 40], [80, 80, 80]], "teacher"),
        record("a", 1, [[10, 10, 10], [20, 20, 20]]),
        record("b", 1, [[4, 4, 5], [10, 10, 10]]),
        record("a", 2, [[30, 30, 30], [30, 30, 30]], "teacher"),
        record("b", 2, [[3, 3, 3], [3, 3, 3]]),
    ]
    known = {"parameters": 1, "flops_episode": 4, "flops_step": 2, "bytes": {"a": 4e6, "b": 1e6}}
    rows = rows_of(records, {"teacher": known, "m": known})
    assert rows[0]["episode_ms"] == {"median": 60, "p95": 80, "least": 40}
    assert [row["faster"]["median"] for row in rows] == pytest.approx([1, 4, 8, 1, 10])
    assert rows[2]["faster"] == pytest.approx({"median": 8, "least": 8, "most": 10})
    own = [row["faster_than_own"]["median"] for row in rows]
    assert own == pytest.approx([1, 1, 2, 1, 1])
    assert rows[2]["step_ms"]["median"] == pytest.approx(3.75)
    assert [row["same_decisions"] for row in rows] == [2, 2, 1, 2, 2]
    assert rows[2]["largest_difference"] == pytest.approx(0.6)


def test_the_command(capsys: Capture, tmp_path: Path) -> None:
    """A preset with random weights, exported on the way."""
    sizes = ("--words", 5, "--views", 4, "--steps", 2, "--rounds", 1, "--episodes", 1)
    asked = ("student-s:onnx,torch", "--threads", 1, "--out", tmp_path / "out", *sizes)
    said = sterna(capsys, "bench", "latency", *asked, "--json").json
    assert [row["engine"] for row in said["rows"]] == ["onnx", "torch"]
    asked_for = {"steps": 2, "words": 5, "views": 4, "objects": 8, "seed": 0}
    assert said["episode"] == asked_for | {"rho": None, "frames": None}
    assert said["rows"][1]["same_decisions"] == 2 and said["reference"] == "student-s onnx"
    assert said["map_nodes"] == [5, 7]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("latency.json", "latency.md", "latency.png"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["minivln:tensorrt"], ["engine 'tensorrt' is unknown", "onnx-int8"]),
        (["nobody"], ["nobody: no preset and no folder", "minivln"]),
        (["minivln:torch", "minivln:onnx"], ["named twice"]),
        (["minivln:torch,torch"], ["named twice"]),
        (["minivln:torch", "--threads", "0"], ["--threads", "from 1 on"]),
        (["minivln:torch", "--threads", "2", "2"], ["different numbers"]),
        (["minivln:torch", "--steps", "0"], ["--steps must be at least 1"]),
        (["minivln:torch", "--rounds", "0"], ["--rounds must be at least 1"]),
        (["student-s:torch", "--words", "513"], ["--words 513: student-s reads at most 512"]),
    ],
)
def test_bad_input(capsys: Capture, tmp_path: Path, words: list[str], said: list[str]) -> None:
    sterna(capsys, "bench", "latency", *words, "--out", tmp_path / "out").refused(*said)
    assert not (tmp_path / "out").exists()


def test_exports_are_asked_for_what_they_hold(exported: Exported, grounded: Exported) -> None:
    assert read_ask(str(exported.folder)).engines == ("onnx", "onnx-int8")
    assert read_ask(f"{exported.policy}:torch").engines == ("torch",)
    for asked, said in (
        (f"{exported.folder}:torch", "holds no weights for torch"),
        (f"{grounded.folder}:onnx-int8", "holds no engine 'onnx-int8'"),
    ):
        with pytest.raises(InputError, match=said):
            run_latency([asked], Path("nowhere"), shape=SHAPE)


def test_an_arm_that_cannot_open_says_why(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    (folder / "step.onnx").write_bytes(b"half")
    plan = Plan(rounds=1, episodes=1, progress=False)
    for name, broken, said in (
        ("onnx", folder, "m onnx at 1 threads: .*step.onnx: not the file"),
        ("torch", tmp_path, "m torch at 1 threads: "),
    ):
        arm = Arm(model="m", engine=name, threads=1, folder=broken)
        with pytest.raises(InputError, match=said):
            measure([arm], SHAPE, plan, tmp_path / name)
