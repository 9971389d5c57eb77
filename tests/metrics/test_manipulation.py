"""The protocol of manipulation tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sterna.errors import InputError
from sterna.metrics.manipulation import GOALS, METAWORLD_10, Camera, ManipulationProtocol


def test_the_published_protocol_does_not_change() -> None:
    assert METAWORLD_10.hash == "f763d3ca9b08"
    assert len(METAWORLD_10.tasks) == 10 and METAWORLD_10.max_steps == 160
    assert list(METAWORLD_10.goals()) == list(range(50))


def test_json_and_back() -> None:
    two = replace(METAWORLD_10, name="two", cameras=(Camera(), Camera(name="b", fovy=30)))
    for protocol in (METAWORLD_10, two):
        assert ManipulationProtocol.from_dict(protocol.to_dict()) == protocol
    assert len({METAWORLD_10.hash, two.hash, replace(two, max_steps=100).hash}) == 3
    values: dict[str, Any] = METAWORLD_10.to_dict()
    with pytest.raises(InputError, match="expected exactly"):
        ManipulationProtocol.from_dict({**values, "speed": 1})
    with pytest.raises(InputError, match="wrong type"):
        ManipulationProtocol.from_dict({**values, "cameras": [{"zoom": 2}]})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"tasks": ()}, "different tasks"),
        ({"tasks": ("a", "a")}, "different tasks"),
        ({"max_steps": 0}, "max_steps"),
        ({"cameras": ()}, "one or two"),
        ({"first_goal": GOALS}, "goals are seeds"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        replace(METAWORLD_10, name="other", **change)


def test_bad_cameras_are_named() -> None:
    with pytest.raises(InputError, match="field of view"):
        Camera(fovy=180)
