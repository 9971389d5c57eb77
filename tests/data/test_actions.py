"""Actions of walks, from trajectory and prediction files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sterna.data.actions import read_actions
from sterna.data.vlnce import Trajectory, write_trajectories
from sterna.errors import InputError


def test_both_shapes_are_read(tmp_path) -> None:
    walk = Trajectory(actions=np.array([1, 2, 0]), positions=np.zeros((2, 3)))
    write_trajectories(tmp_path / "val_gt.json.gz", {"12": walk})
    assert read_actions(tmp_path / "val_gt.json.gz")["12"].tolist() == [1, 2, 0]
    listed = [{"instr_id": "a", "actions": [1]}, {"episode_id": 7, "actions": []}]
    (tmp_path / "walks.json").write_text(json.dumps(listed))
    found = read_actions(tmp_path / "walks.json")
    assert {name: actions.tolist() for name, actions in found.items()} == {"a": [1], "7": []}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("7", "expected an object by episode id, or a list"),
        ('[{"actions": [1]}]', "walk number 0: expected an object with instr_id or episode_id"),
        ('{"7": {"actions": [4]}}', "episode 7: expected actions, a list of 0 stop"),
        ('{"7": {"locations": []}}', "episode 7: .* the file holds none"),
        ('{"7": [1, 2]}', "episode 7: expected actions"),
        ('[{"instr_id": "7", "actions": []}, {"episode_id": 7, "actions": []}]', "7 occurs twice"),
    ],
)
def test_bad_files_are_refused_by_name(content: str, said: str, tmp_path) -> None:
    (tmp_path / "walks.json").write_text(content)
    with pytest.raises(InputError, match=rf"walks\.json: .*{said}|walks\.json: {said}"):
        read_actions(tmp_path / "walks.json")
