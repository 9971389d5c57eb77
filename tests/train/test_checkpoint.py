"""Training states: whole or refused, with a table."""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sterna.train.checkpoint import CheckpointError, compare, load_state, save_state


def model(width: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))


def trained(seed: int = 0) -> tuple[nn.Module, torch.optim.AdamW]:
    net = model(seed=seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(4, 2)).square().sum().backward()
        optimizer.step()
    return net, optimizer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    net, optimizer = trained()
    progress, memory = {"best": -math.inf, "seen": [1]}, [{"a": torch.ones(2), "b": ["x"]}]
    save_state(tmp_path / "state.pt", {"task": net}, optimizer, progress, memory)
    return tmp_path / "state.pt"


def fresh() -> tuple[nn.Module, torch.optim.AdamW]:
    net = model(seed=5)
    return net, torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)


def test_round_trip(file: Path) -> None:
    (net, optimizer), (wanted, old) = fresh(), trained()
    progress, memory = load_state(file, {"task": net}, optimizer)
    assert progress == {"best": -math.inf, "seen": [1]}
    assert memory[0]["b"] == ["x"] and torch.equal(memory[0]["a"], torch.ones(2))
    for mine, theirs in zip(net.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(
        optimizer.state_dict()["state"].values(), old.state_dict()["state"].values(), strict=True
    ):
        assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    assert [f.name for f in file.parent.iterdir()] == ["state.pt"], "no half-written file stays"


def refused(file: Path, match: str) -> str:
    net, optimizer = fresh()
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(CheckpointError, match=match) as caught:
        load_state(file, {"task": net}, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not optimizer.state_dict()["state"]
    assert len(str(caught.value).splitlines()) > 1, "the message ends with a table"
    return str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99, 0.9999])
def test_truncated(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    message = refused(file, "not a whole training state")
    assert str(file) in message and "expected: sterna-training-state-1" in message


@pytest.mark.parametrize("seed", range(30))
def test_noise(file: Path, seed: int) -> None:
    file.write_bytes(np.random.default_rng(seed).bytes(300))
    refused(file, "not a whole training state")


def test_other_files(file: Path) -> None:
    file.write_text("hello")
    refused(file, "not a whole training state")
    file.write_bytes(pickle.dumps({"format": "sterna-training-state-1", "run": print}))
    refused(file, "not a whole training state")


def test_checkpoint_of_another_program(file: Path) -> None:
    torch.save({"vln_bert": {"epoch": 1, "state_dict": {}}}, file)
    assert "vln_bert" in refused(file, "a checkpoint of another program")
    torch.save([torch.ones(2)], file)
    refused(file, "a checkpoint of another program")


def test_state_with_parts_missing(file: Path) -> None:
    torch.save({"format": "sterna-training-state-1"}, file)
    refused(file, "not a whole training state")


def test_weights_of_another_model(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.Identity(), nn.Linear(4, 1))
    file = tmp_path / "state.pt"
    save_state(file, {"task": net}, torch.optim.AdamW(net.parameters()), {})
    message = refused(file, "6 keys do not fit this model")
    assert "mis-shaped 0.weight expected (3, 2), found (4, 2)" in message
    assert "missing    1.weight (1, 3)" in message and "extra      2.bias (1,)" in message


def test_long_tables_are_cut(tmp_path: Path) -> None:
    file, net = tmp_path / "state.pt", nn.Linear(1, 1)
    save_state(file, {"task": net}, torch.optim.AdamW(net.parameters()), {})
    big = nn.Sequential(*(nn.Linear(2, 2) for _ in range(15)))
    with pytest.raises(CheckpointError, match=r"\.\.\. and 12 more"):
        load_state(file, {"task": big}, torch.optim.AdamW(big.parameters()))


def test_optimizer_of_another_run(tmp_path: Path) -> None:
    """Same weights, other parameter groups: refused before anything is changed."""
    file, net = tmp_path / "state.pt", model()
    groups = [{"params": [p]} for p in net.parameters()]
    save_state(file, {"task": net}, torch.optim.AdamW(groups), {})
    refused(file, "optimi")


def test_compare_is_empty_for_equal_keys() -> None:
    assert compare(model().state_dict(), model(seed=3).state_dict()) == []


def test_failed_write_leaves_the_old_state(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = file.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    net, optimizer = trained(seed=2)
    with pytest.raises(OSError, match="disk full"):
        save_state(file, {"task": net}, optimizer, {})
    assert file.read_bytes() == content and len(list(file.parent.iterdir())) == 1
    assert io.BytesIO(content).readable()
