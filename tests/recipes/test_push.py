"""Policies go to a Hub on this machine and come back the same, with a card that says it all."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from cli_tools import TINY_RUN, sterna
from fake_hub import FakeHub, serving
from sterna.cli import main
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.metrics import find_protocol
from sterna.metrics.result import Estimate, Result, write_result
from sterna.models import hub as hub_module
from sterna.models.duet import DUET
from sterna.models.hub import files_to_push, find_folder, hub_name, push_folder
from sterna.recipes.hubcard import build_card, public
from sterna.recipes.policies import open_teacher
from toy_duet import make_model

# Of huggingface_hub's own upload of weights, whatever it is given.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with serving(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, toy_house: Path) -> Path:
    """A tiny training run, evaluated."""
    folder = tmp_path_factory.mktemp("run") / "run"
    words = ["train", "toy-teacher", "--data", toy_house, "--out", folder, *TINY_RUN]
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        assert main([str(word) for word in words]) == 0
        assert main(["eval", str(folder), "--data", str(toy_house), "--episodes", "6"]) == 0
    (folder / "eval-part").rename(folder / "eval")
    return folder


def test_a_policy_goes_and_comes_back(hub: FakeHub) -> None:
    """From Python: `push_to_hub`, then `from_pretrained` by name, at the head and at a revision."""
    model = make_model()
    url = model.push_to_hub("me/tern", notes="Flew to the pole.")
    assert url == f"{hub.endpoint}/me/tern" and hub.repos["me/tern"]["private"] is True
    files = hub.files("me/tern")
    assert set(files) == {"README.md", "config.json", "model.safetensors", "probe.json"}
    card = files["README.md"].decode()
    assert "Flew to the pole." in card and 'DUET.from_pretrained("me/tern")' in card
    first = hub.repos["me/tern"]["head"]
    loaded = DUET.from_pretrained("me/tern")
    mine, theirs = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.add_(1.0)
    model.push_to_hub("me/tern")
    old = DUET.from_pretrained(f"me/tern@{first}").state_dict()
    new = DUET.from_pretrained("hf:me/tern").state_dict()
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(old[name], theirs[name]) and torch.equal(new[name], mine[name])
    assert len(hub.repos["me/tern"]["messages"]) == 2  # one commit each


def test_a_run_is_pushed_and_walked_from_the_hub(
    hub: FakeHub, run: Path, toy_house: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bench = write_bench(tmp_path / "latency.json")
    said = sterna(
        capsys, "push", run, "me/toy", "--latency", bench, "--license", "cc-by-4.0",
        "--terms", "toy houses: no terms", "--public", "--json",
    )  # fmt: skip
    assert said.json["url"] == f"{hub.endpoint}/me/toy"
    assert hub.repos["me/toy"]["private"] is False
    files = hub.files("me/toy")
    assert set(files) == {
        *("README.md", "config.json", "model.safetensors", "probe.json", "recipe.json"),
    }
    card = files["README.md"].decode()
    result = read_json(run / "eval" / "result_val_unseen.json")
    for part in (
        'license: "cc-by-4.0"',
        f"R2R_DUET {result['protocol_hash']}",
        "success radius: 3.0",
        "seeds: 0",
        "weights selected on: val_seen",
        "toy houses: no terms",
        "| minivln | onnx | 1 | 46.9 |",
        "AMD EPYC, 2 cores",
        f"{100 * result['scores']['SR']['mean']:.1f} ±",
        'DUET.from_pretrained("me/toy")',
    ):
        assert part in card, part
    assert str(run.parent) not in files["recipe.json"].decode() + card
    flat = tmp_path / "flat"  # a policy whose folder is the run's own
    shutil.copytree(run / "best", flat)
    shutil.copy(run / "recipe.json", flat)
    shutil.copy(run / "run.json", flat)
    assert set(files_to_push(flat)) == {
        flat / name for name in set(files) - {"README.md", "recipe.json"}
    }
    again = sterna(
        capsys, "eval", "hf:me/toy", "--data", toy_house, "--episodes", 6, "--json",
        "--out", tmp_path / "eval",
    )  # fmt: skip
    assert again.json["scores"] == result["scores"]
    assert open_teacher(Path("hf:me/toy")).config == DUET.from_pretrained(run / "best").config


def write_bench(path: Path) -> Path:
    row = {
        "model": "minivln",
        "engine": "onnx",
        "threads": 1,
        "episode_ms": {"median": 46.94, "p95": 52.77},
        "step_ms": {"median": 5.96},
        "peak_MB": 175.8,
        "file_MB": 84.1,
    }
    machine = {"cpu": "AMD EPYC", "cores": 2, "busy": False}
    write_json(path, {"machine": machine, "rows": [row]})
    return path


def result_of(seed: int, rate: float, *, control: str = "") -> Result:
    return Result(
        protocol=find_protocol("R2R_DUET"),
        scores={"SR": Estimate(mean=rate, scan_error=0.02), "NE": Estimate(mean=4.0 + seed)},
        episodes=2349,
        expected=2349,
        split="val_unseen",
        seed=seed,
        selection_split="val_seen",
        config={"control": control},
    )


def test_card_of_several_seeds(tmp_path: Path) -> None:
    """Mean and standard error over seeds: by hand, 50 60 70 -> 60 ± 10 / sqrt(3) = 5.8."""
    folder = make_model().save_pretrained(tmp_path / "policy")
    files = []
    for seed, rate in enumerate((0.5, 0.6, 0.7)):
        files.append(tmp_path / f"{seed}.json")
        write_result(files[-1], result_of(seed, rate))
    files.append(tmp_path / "blind.json")
    write_result(files[-1], result_of(9, 0.25, control="blind"))
    card = build_card(folder, "me/tern", results=files)
    rows = [line for line in card.splitlines() if line.startswith("| val_unseen")]
    assert "| - | 0, 1, 2 | 2,349 of 2,349 | 60.0 ± 5.8 | 5.00 ± 0.58 |" in rows[0]
    assert "| blind | 9 | 2,349 of 2,349 | 25.0 ± 2.0 | 13.00 |" in rows[1]
    assert "seeds: 0, 1, 2, 9" in card and "weights selected on: val_seen" in card
    assert "Room-to-Room (R2R): Matterport3D Terms of Use" in card
    head = card.split("---\n")[1]
    index = json.loads(head.split("model-index: ")[1].splitlines()[0])
    assert index[0]["results"][0]["metrics"][0]["value"] == 0.6 and len(index[0]["results"]) == 1
    assert card.count("\n---\n") == 1 and 'DUET.from_pretrained("me/tern")' in card


def test_card_without_anything_says_so(tmp_path: Path) -> None:
    card = build_card(make_model().save_pretrained(tmp_path / "p"), "me/tern")
    for part in ("None were given", "seeds: not recorded", "Not measured", "- not recorded; ask"):
        assert part in card, part
    with pytest.raises(InputError, match="expected the JSON of `sterna bench latency"):
        build_card(tmp_path / "p", "me/tern", latency=tmp_path / "p" / "config.json")


def test_only_the_card(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--card writes a file and talks to nobody (the network guard would end the test)."""
    said = sterna(capsys, "push", run, "me/toy", "--card", tmp_path / "card.md")
    assert said.code == 0 and "nothing was pushed" in said.out
    assert "## Protocol" in (tmp_path / "card.md").read_text()


@pytest.fixture
def no_bars() -> Iterator[None]:
    """No progress bars of uploads on standard error."""
    disable_progress_bars()
    yield
    enable_progress_bars()


@pytest.mark.usefixtures("no_bars")
def test_refusals_are_one_line(
    hub: FakeHub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sterna(capsys, "push", run, "no-owner").refused("expected owner/name")
    sterna(capsys, "push", tmp_path / "none", "me/toy").refused("no such folder")
    sterna(capsys, "eval", "hf:me/absent").refused("me/absent", "Hub does not give")
    sterna(capsys, "eval", "hf:too/many/parts").refused("expected hf:owner/name")
    with pytest.raises(InputError, match="me/absent"):
        DUET.from_pretrained("me/absent")
    hub.refuse.add("commit")
    sterna(capsys, "push", run, "me/toy").refused("me/toy", "you may not write here")
    assert hub.repos["me/toy"]["commits"] == {}  # nothing half pushed


def test_nobody_answers(tmp_path: Path) -> None:
    folder = make_model().save_pretrained(tmp_path / "p")
    with serving(tmp_path) as server:
        endpoint = server.endpoint
    with pytest.raises(InputError, match="the Hub does not give or take it") as caught:
        push_folder(folder, "me/tern", "card", endpoint=endpoint, token="hf_x")
    assert "\n" not in str(caught.value)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "here").mkdir(parents=True)
    assert hub_name("runs/here") is None and hub_name("runs/there") == "runs/there"
    assert hub_name("hf:runs/here@v1") == "runs/here@v1"
    assert hub_name("a/../b") is None and hub_name("/abs/path") is None
    assert find_folder(Path("runs/there")) == Path("runs/there")  # a path stays a path
    monkeypatch.setattr(hub_module, "fetch", lambda name, endpoint: Path("got") / name)
    assert find_folder(Path("hf:me/x")) == Path("got/me/x")
    assert public({"a": "/home/me/x.hdf5", "b": ["~/y", "r2r", 3]}) == {
        "a": "x.hdf5",
        "b": ["y", "r2r", 3],
    }
