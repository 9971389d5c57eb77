"""Same name, same numbers: protocols are frozen, hashed and round-trip."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from sterna.errors import InputError
from sterna.metrics import PROTOCOLS, R2R_CE, R2R_DUET, RXR_CE, Protocol, find_protocol

BASE = replace(R2R_DUET, name="mine")
OTHER = {
    "name": "yours",
    "success": "goal_set",
    "success_radius": 2.0,
    "strict": False,
    "reference_length": "geodesic",
    "spl_floor": 0.5,
    "reference_path": "shortest",
    "ndtw_threshold": 1.0,
    "max_steps": 15,
    "backtracking": False,
    "distance_source": "straight line",
    "answer_key": "another file",
    "forward_step": 0.25,
    "turn_angle": 15.0,
    "sliding": True,
    "camera_width": 224,
    "camera_height": 224,
    "camera_hfov": 90.0,
    "camera_elevation": 1.25,
    "depth_width": 256,
    "depth_height": 256,
    "depth_hfov": 90.0,
    "depth_near": 0.5,
    "depth_far": 10.0,
    "agent_radius": 0.1,
    "agent_height": 1.5,
    "path_type": "player_path",
}


@pytest.mark.parametrize("name", [field.name for field in fields(Protocol)])
def test_the_hash_changes_with_each_field(name):
    assert replace(BASE, **{name: OTHER[name]}).hash != BASE.hash
    assert replace(BASE).hash == BASE.hash and len(BASE.hash) == 12


def test_published_hashes_never_change():
    """A changed hash here means that published results can no longer be compared."""
    assert {name: p.hash for name, p in PROTOCOLS.items()} == {
        "R2R_MATTERSIM": "52eeceacd8ee",
        "R2R_DUET": "3ad81e493917",
        "R4R_DUET": "847132f1d947",
        "REVERIE_DUET": "521381f1214e",
        "REVERIE_OFFICIAL": "ac566d1d01ae",
        "REVERIE_V2_DUET": "429f40894392",
        "RXR_OFFICIAL": "22bee0dc96fc",
        "RXR_DUET": "dd015b6e1f2f",
        "SOON_OFFICIAL": "cfc02be43ee9",
        "NDH_PLANNER": "c64cc8a77a07",
        "NDH_PLAYER": "1cc3ff625313",
        "NDH_TRUSTED": "8880c828cd73",
        "NDH_HAMT": "a3bb137911de",
        "R2R_CE": "456ce953f0f1",
        "R2R_CE_V1_2": "68d9fecca3e9",
        "RXR_CE": "8c3079489faf",
        "R2R_CE_VLNR1": "2f727ccf0999",
        "R2R_CE_NAVID": "d5bbbe849f88",
        "R2R_CE_STREAMVLN": "70f3aea74f75",
        "RXR_CE_NAVID": "278d0d9ba35c",
        "RXR_CE_NAVILA": "54279f03c883",
        "RXR_CE_INTERNNAV": "3af7fb936a48",
        "HOUSES": "5ac14f36106e",
    }


def test_a_published_name_keeps_its_settings():
    with pytest.raises(InputError, match=r"R2R_DUET.*a name of their own"):
        replace(R2R_DUET, success_radius=2.0)
    assert replace(R2R_DUET) == R2R_DUET
    with pytest.raises(FrozenInstanceError):
        R2R_DUET.strict = False


def test_numbers_are_canonical():
    assert replace(BASE, success_radius=3).hash == BASE.hash
    assert replace(BASE, turn_angle=15).hash == replace(BASE, turn_angle=15.0).hash


@pytest.mark.parametrize("protocol", [*PROTOCOLS.values(), replace(BASE, **OTHER)])
def test_round_trip(protocol):
    assert Protocol.from_dict(protocol.to_dict()) == protocol
    assert PROTOCOLS.get(protocol.name, protocol) is protocol


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("success_radius", float("nan")),
        ("success_radius", 0),
        ("success_radius", True),
        ("success_radius", "3"),
        ("spl_floor", -1.0),
        ("max_steps", 0),
        ("max_steps", 1.5),
        ("strict", 1),
        ("sliding", "on"),
        ("reference_length", "euclid"),
        ("success", None),
        ("name", ""),
        ("answer_key", None),
        ("camera_width", True),
        ("turn_angle", float("inf")),
    ],
)
def test_bad_fields_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        replace(BASE, **{field: value})


def test_unknown_names_and_fields_are_refused():
    with pytest.raises(InputError, match=r"unknown protocol 'R2R'.*R2R_DUET"):
        find_protocol("R2R")
    assert find_protocol("R2R_DUET") is R2R_DUET
    assert find_protocol("r2r-ce-v1") is R2R_CE and find_protocol("rxr-ce-v1") is RXR_CE
    assert find_protocol("rxr-ce-navila").turn_angle == 15
    with pytest.raises(InputError, match="gravity"):
        Protocol.from_dict(BASE.to_dict() | {"gravity": 9.81})
    assert "depth_far" not in BASE.to_dict(), "results from before these fields keep their hash"
    with pytest.raises(InputError, match="no object"):
        Protocol.from_dict([])
