"""The examples: a house driven through a service; the ROS 2 node's logic without ROS."""

from __future__ import annotations

import asyncio
import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace as Fields
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.conftest import Exported
from edge.serving import asynchronous, seen_at
from sterna.edge.runtime import Decision, Engine, Navigator, Observation
from sterna.edge.service import Service
from sterna.errors import InputError

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The modules of the ROS 2 package."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "ros2_node"))
    from sterna_navigator import guide, node, places, remote, translate

    yield Fields(guide=guide, node=node, places=places, remote=remote, translate=translate)
    for name in [name for name in sys.modules if name.startswith("sterna_navigator")]:
        del sys.modules[name]


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_a_house_is_driven(
    exported: Exported,
    toy_house: Path,
    tmp_path: Path,
    suffix: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = runpy.run_path(str(EXAMPLES / "drive_house.py"))
    words = [str(exported.folder), "--data", str(toy_house), "--split", "val_seen"]
    out = example["main"]([*words, "--out", str(tmp_path / f"walk{suffix}")])
    with Image.open(out) as picture:
        assert picture.width >= 900
        frames = getattr(picture, "n_frames", 1)
    said = capsys.readouterr().out
    assert "stop (" in said and frames == (said.count("\n") - 1 if suffix == ".gif" else 1)
    with pytest.raises(InputError, match="no episode 'nobody'"):
        example["main"]([*words, "--episode", "nobody"])


def test_places_are_the_robots_own(ros: Any) -> None:
    places = ros.places.Places(radius=0.5)
    assert places.name((0, 0, 0)) == "place-0" == places.name((0.3, 0.3, 0))
    assert places.name((2, 0, 0)) == "place-1" and places.name((2, 0, 3)) == "place-2"
    assert places.name((1.7, 0, 0)) == "place-1" and len(places) == 3
    np.testing.assert_array_equal(places.position("place-2"), (2, 0, 3))


SQUARE = [(2.0 * column, 2.0 * row, 0.0) for row in range(4) for column in range(4)]


def ways_from(place: int) -> list[tuple[float, float, float]]:
    here = np.array(SQUARE[place])
    return [point for point in SQUARE if 0 < np.linalg.norm(here - point) < 2.5]


def lead(ros: Any, guide: Any, engine: Engine) -> list[str]:
    """Drive a robot that obeys; returns the decisions' targets. Positions are a little off."""
    rng = np.random.default_rng(0)
    place, targets = 5, []
    guide.moved(ros.guide.Pose(position=SQUARE[place], heading=0.3))
    guide.instruct("turn left and stop at the red door")
    while guide.state != "done":
        assert guide.state == "looking" and guide.goal is None
        assert guide.views(seen_at(place, engine).views) is None
        decision = guide.ways(ways_from(place))
        targets.append(decision.target)
        while guide.state == "going":
            place = SQUARE.index(tuple(np.round(guide.goal / 2) * 2))
            jitter = rng.uniform(-0.1, 0.1, 3) * (1, 1, 0)
            pose = ros.guide.Pose(position=tuple(guide.goal + jitter), heading=guide.next_heading)
            assert guide.moved(pose)
    return targets


def test_a_guide_leads_to_the_end(ros: Any, exported: Exported) -> None:
    engine = Engine.open(exported.folder)
    guide = ros.guide.Guide(Navigator(engine))
    first = lead(ros, guide, engine)
    assert guide.decision.stop and first == lead(ros, guide, engine)  # and forgets the first house


class Listening:
    """A navigator with an instruction of its own, that remembers what it was shown."""

    def __init__(self, engine: Engine) -> None:
        self.navigator, self.seen = Navigator(engine), list[Observation]()

    def start(self, _: str) -> None:
        self.navigator.start([3, 7, 20])

    def step(self, seen: Observation) -> Decision:
        self.seen.append(seen)
        return self.navigator.step(seen)


def test_a_guide_that_cannot_go_on_looks_again(ros: Any, exported: Exported) -> None:
    engine = Engine.open(exported.folder)
    thinker = Listening(engine)
    guide = ros.guide.Guide(thinker)
    views = seen_at(5, engine, 1).views
    assert guide.views(views) is None  # nobody asked
    guide.moved(ros.guide.Pose(position=SQUARE[5], heading=0.0))
    guide.instruct("go")
    guide.views(views)
    near = (SQUARE[5][0] + 0.1, SQUARE[5][1], 0.0)  # that is here itself
    assert not guide.ways([near, *ways_from(5), near]).stop
    assert len(thinker.seen[0].neighbours) == 4 and len(guide.places) == 5
    assert guide.state == "going" and not guide.moved(guide.pose)
    turns = np.array([0.0, 0.5, 1.0, -0.5]) * math.pi
    assert np.isclose(np.abs(guide.next_heading - turns) % (2 * math.pi), 0, atol=1e-6).any()
    guide.blocked()
    assert guide.state == "looking" and guide.goal is None
    guide.blocked()
    assert guide.state == "looking"


def test_cameras_may_turn_with_the_robot(ros: Any, exported: Exported) -> None:
    thinker = Listening(Engine.open(exported.folder))
    cameras = np.arange(4) * math.pi / 2
    guide = ros.guide.Guide(thinker, camera_headings=cameras)
    guide.moved(ros.guide.Pose(position=(0, 0, 0), heading=1.0))
    guide.instruct("go")
    guide.ways([(0, 2, 0)])
    assert guide.views(np.ones((4, 32), np.float32)) is not None
    np.testing.assert_allclose(thinker.seen[0].view_headings, cameras + 1.0)


@asynchronous
async def test_a_guide_may_ask_a_service(ros: Any, exported: Exported) -> None:
    engine = Engine.open(exported.folder)
    wanted = lead(ros, ros.guide.Guide(Navigator(engine)), engine)

    def ask(url: str) -> list[str]:
        thinker = ros.node.thinker_of({"url": url, "token": ""})
        try:
            return lead(ros, ros.guide.Guide(thinker), engine)
        finally:
            thinker.close()

    async with Service(engine) as service:
        assert await asyncio.to_thread(ask, service.url) == wanted
        assert len(service.endpoints.sessions) == 0


def test_headings_and_yaws(ros: Any) -> None:
    to = ros.translate
    for yaw, heading in ((0, math.pi / 2), (math.pi / 2, 0), (-math.pi / 2, math.pi)):
        turned = (to.heading_of(yaw) - heading) % (2 * math.pi)
        assert min(turned, 2 * math.pi - turned) < 1e-9
    for heading in (-3.0, -1.0, 0.0, 0.5, 3.1):
        message = Fields(
            header=Fields(frame_id=""),
            pose=Fields(position=Fields(x=0, y=0, z=0), orientation=Fields(x=0, y=0, z=0, w=1)),
        )
        filled = to.fill_pose(message, (1, 2, 3), heading, "map")
        pose = to.pose_of(filled.pose)
        assert pose.position == (1, 2, 3) and pose.heading == pytest.approx(heading)
        assert filled.header.frame_id == "map"


def test_topics_lead_a_guide(ros: Any, exported: Exported) -> None:
    """What the node publishes, message by message."""
    engine = Engine.open(exported.folder)
    said: list[tuple[Any, ...]] = []
    publish = {
        "look": lambda: said.append(("look",)),
        "goal": lambda position, heading: said.append(("goal", tuple(position))),
        "decision": lambda text: said.append(("decision",)),
    }
    guide = ros.guide.Guide(Navigator(engine))
    topics = ros.node.Topics(guide, publish, lambda text: said.append(("warned", text)))

    def odom(position: Any) -> None:
        place = Fields(**dict(zip("xyz", position, strict=True)))
        pose = Fields(position=place, orientation=Fields(x=0, y=0, z=0, w=1))
        topics.odom(Fields(pose=Fields(pose=pose)))

    odom(SQUARE[5])
    topics.instruction(Fields(data="turn left and stop at the red door"))
    assert said == [("look",)]
    views = seen_at(5, engine).views
    sizes = [Fields(size=36), Fields(size=32)]
    for data, count in ((views.ravel()[:-1], 1), (views.ravel(), 1)):
        topics.views(Fields(layout=Fields(dim=sizes, data_offset=0), data=data.tolist()))
        assert sum(word[0] == "warned" for word in said) == count
    poses = [Fields(position=Fields(x=x, y=y, z=z)) for x, y, z in ways_from(5)]
    topics.reachable(Fields(poses=poses))
    assert said[2] == ("decision",) and "1151" in said[1][1]
    if guide.state == "going":
        assert said[3] == ("goal", tuple(guide.goal))
        topics.goal_failed(Fields())
        assert said[4] == ("look",) or guide.state == "done"


def test_the_node_needs_somebody_who_thinks(ros: Any) -> None:
    with pytest.raises(InputError, match=r"folder .* or url"):
        ros.node.thinker_of(ros.node.PARAMETERS)
    assert "rclpy" not in sys.modules
