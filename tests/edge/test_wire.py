"""Messages as bytes and back, and observations as messages and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sterna.edge.messages import read_decision, read_observation, write_decision, write_observation
from sterna.edge.runtime import Decision, Neighbour, Objects, Observation
from sterna.edge.wire import BINARY, JSON, array, decode, encode
from sterna.errors import InputError

names = st.text('az09 -/é€😀\0\n"\\{}', min_size=1, max_size=20)
metres = st.floats(-1e6, 1e6)
places = st.tuples(metres, metres, metres)
angles = st.floats(-100, 100)
features = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.floats(-1e6, 1e6, width=32),
)
maybe = st.none() | angles
neighbours = st.builds(
    Neighbour,
    name=names,
    position=places,
    heading=maybe,
    elevation=maybe,
    distance=st.none() | st.floats(0, 1e6),
)


@st.composite
def observations(draw: Any) -> Observation:
    views = draw(features)
    count = st.lists(angles, min_size=len(views), max_size=len(views))
    headings = draw(st.none() | count)
    things = draw(st.none() | features)
    pairs = st.tuples(angles, angles)
    return Observation(
        node=draw(names),
        position=draw(places),
        views=views,
        neighbours=draw(st.lists(neighbours, max_size=3)),
        heading=draw(maybe),
        elevation=draw(angles),
        view_headings=headings,
        view_elevations=None if headings is None else draw(st.none() | count),
        objects=None
        if things is None
        else Objects(
            ids=np.arange(len(things)),
            features=things,
            directions=[draw(pairs) for _ in things],
            sizes=[draw(pairs) for _ in things],
        ),
    )


def same(a: Any, b: Any) -> bool:
    """Equality of observations, field by field; arrays by value."""
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    if isinstance(a, list) and a and isinstance(a[0], Neighbour):
        return len(a) == len(b) and all(map(same, a, b))
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(observations())
def test_observations_come_back(seen: Observation) -> None:
    assert same(read_observation(decode(encode(write_observation(seen)), BINARY)), seen)
    text = json.dumps(write_observation(seen), default=lambda value: value.tolist())
    assert same(read_observation(decode(text.encode(), JSON)), seen)


@given(names, names, st.floats(0, 1), st.booleans(), st.none() | st.integers(0, 99))
def test_decisions_come_back(a: str, b: str, chance: float, stop: bool, thing: int | None) -> None:
    decision = Decision(
        step=3,
        node=a,
        stop=stop,
        target=b,
        path=(a, b),
        probability=chance,
        stop_probability=1 - chance,
        probabilities={a: chance},
        reason="chosen",
        object_id=thing,
    )
    assert read_decision(json.loads(json.dumps(write_decision(decision)))) == decision


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([JSON, BINARY]))
def test_any_bytes_are_read_or_refused(body: bytes, kind: str) -> None:
    try:
        message = decode(body, kind)
        read_observation(message)
    except InputError as error:
        assert "\n" not in str(error)


def test_arrays_are_windows_on_the_body() -> None:
    views = np.arange(12, dtype=np.float32).reshape(3, 4)
    body = encode({"views": views, "objects": {"features": views[:2] + 100}})
    message = decode(body, BINARY)
    found = array(message, message["views"], "views")
    np.testing.assert_array_equal(found, views)
    assert not found.flags.owndata and not found.flags.writeable
    np.testing.assert_array_equal(
        array(message, message["objects"]["features"], "features"), views[:2] + 100
    )
