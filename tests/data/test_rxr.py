"""RxR: guides and followers in three languages; nothing lost on the way through our writer."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterna.data.r2r import check_episodes, load_graphs, read_r2r
from sterna.data.rxr import read_rxr, write_rxr
from sterna.errors import InputError
from toy_tasks import LANGUAGES, WORDS, write_toy_tasks

GUIDE: dict[str, Any] = {
    "path_id": 11,
    "split": "val_seen",
    "scan": "house",
    "heading": 3.105381634905035,
    "path": ["a", "b", "c"],
    "instruction_id": 26,
    "annotator_id": 19,
    "language": "te-IN",
    "instruction": "ఎర్ర కుర్చీ",
    "timed_instruction": [{"start_time": 0.4, "word": "ఎర్ర", "end_time": 1.0}, {"word": "కుర్చీ"}],
    "edit_distance": 0.11137440758293839,
}
FOLLOWER: dict[str, Any] = {
    "demonstration_id": 27,
    "instruction_id": 26,
    "annotator_id": 43,
    "path": ["a", "c"],
    "metrics": {"ne": 0, "sr": 1.0, "ndtw": 0.9020566069282614},
}


def lines(path: Path, *entries: Any) -> Path:
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def values(path: Path) -> list[Any]:
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both roles of one split, beside a folder of pose traces."""
    (tmp_path / "pose_traces" / "rxr_val_seen").mkdir(parents=True)
    (tmp_path / "pose_traces" / "rxr_val_seen" / "000026_guide_pose_trace.npz").write_text("no")
    lines(tmp_path / "rxr_val_seen_guide.jsonl.gz", GUIDE)
    lines(tmp_path / "rxr_val_seen_follower.jsonl.gz", FOLLOWER)
    return tmp_path


@pytest.fixture(scope="module")
def world(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_tasks(toy_house, tmp_path_factory.mktemp("tasks") / "data", paths=12)


def test_a_guide(folder: Path) -> None:
    (episode,) = read_rxr(folder, "val_seen")
    assert (episode.instr_id, episode.path_id, episode.instruction_id) == ("11_26", 11, "26")
    assert episode.path == ("a", "b", "c") and episode.heading == GUIDE["heading"]
    assert (episode.language, episode.role, episode.split) == ("te-IN", "guide", "val_seen")
    assert episode.instruction == GUIDE["instruction"] and episode.rest is None
    (whole,) = read_rxr(folder / "rxr_val_seen_guide.jsonl.gz", whole=True)
    assert replace(whole, rest=None) == episode and "timed_instruction" in str(whole.rest)


def test_a_follower_has_the_words_of_its_guide(folder: Path) -> None:
    (episode,) = read_rxr(folder, "val_seen", role="follower")
    assert (episode.instr_id, episode.demonstration_id) == ("11_26_27", 27)
    assert episode.path == ("a", "c") and episode.instruction == GUIDE["instruction"]
    assert read_rxr(folder / "rxr_val_seen_follower.jsonl.gz", role="follower")[0].scan == "house"
    lines(folder / "rxr_val_seen_guide.jsonl.gz", GUIDE | {"instruction_id": 3})
    with pytest.raises(InputError, match=r"follower.jsonl.gz: line 1: instruction_id 26 is no gui"):
        read_rxr(folder, "val_seen", role="follower")


def test_languages(world: Path) -> None:
    """Three languages, English in two accents; every one can be asked for alone."""
    every = read_rxr(world, "val_unseen")
    assert {e.language for e in every} == set(LANGUAGES)
    assert any(e.instruction == WORDS["hi-IN"] for e in every)
    parts = [read_rxr(world, "val_unseen", languages=[name]) for name in ("en", "hi", "te-IN")]
    assert sum(map(len, parts)) == len(every) and {e.language for e in parts[1]} == {"hi-IN"}
    with pytest.raises(InputError, match=r"no episode in fr; it holds en-IN, en-US, hi-IN, te-IN"):
        read_rxr(world, "val_unseen", languages=["fr"])


def test_a_test_split_has_starts_alone(world: Path) -> None:
    episodes = read_rxr(world, "test_standard")
    assert len(episodes) == 36 and all(len(e.path) == 1 and not e.answered for e in episodes)
    assert all(e.instr_id == e.instruction_id == e.path_id for e in episodes)


def test_toy_paths_follow_edges(world: Path) -> None:
    for role in ("guide", "follower"):
        episodes = read_rxr(world, "val_seen", role=role)
        assert not check_episodes(episodes, load_graphs(world / "connectivity", episodes))


@pytest.mark.parametrize("role", ["guide", "follower"])
@pytest.mark.parametrize("split", ["train", "val_unseen"])
def test_files_survive_the_round_trip(world: Path, tmp_path: Path, role: Any, split: str) -> None:
    """Read, write, read: equal values in the file, equal episodes."""
    episodes = read_rxr(world, split, role=role, whole=True)
    file = tmp_path / f"rxr_{split}_{role}.jsonl.gz"
    write_rxr(file, episodes)
    assert values(file) == values(world / "rxr" / file.name)
    guide = world / "rxr" / f"rxr_{split}_guide.jsonl.gz" if role == "follower" else None
    assert read_rxr(file, split, role=role, whole=True, guide=guide) == episodes


def test_a_test_split_survives_the_round_trip(world: Path, tmp_path: Path) -> None:
    write_rxr(tmp_path / "test.jsonl", read_rxr(world, "test_standard", whole=True))
    published = world / "rxr" / "rxr_test_standard_public_guide.jsonl.gz"
    assert values(tmp_path / "test.jsonl") == values(published)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FRACTION = st.floats(-9, 9)
ENTRY = st.fixed_dictionaries(
    {
        "scan": st.sampled_from(["house", "flat"]),
        "path": st.lists(st.sampled_from("abcde"), min_size=1, max_size=5),
        "heading": FRACTION,
        "language": st.sampled_from(LANGUAGES),
        "instruction": TEXT,
    },
    optional={
        "path_id": st.integers(0, 99),
        "split": st.sampled_from(["train", "val_seen"]),
        "instr_encoding": st.lists(st.integers(0, 250_000), max_size=4),
        "annotator_id": st.integers(0, 9),
        "timed_instruction": st.lists(
            st.fixed_dictionaries({"word": TEXT, "start_time": FRACTION})
        ),
        "surprise": st.recursive(FRACTION | TEXT, lambda x: st.lists(x) | st.dictionaries(TEXT, x)),
    },
)


@given(entries=st.lists(ENTRY, min_size=1, max_size=4))
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_annotations_survive_the_round_trip(tmp_path: Path, entries: list[Any]) -> None:
    numbered = [entry | {"instruction_id": n} for n, entry in enumerate(entries)]
    first = read_rxr(lines(tmp_path / "a.jsonl", *numbered), whole=True)
    write_rxr(tmp_path / "b.jsonl", first)
    assert values(tmp_path / "b.jsonl") == numbered
    assert read_rxr(tmp_path / "b.jsonl", whole=True) == first


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"instruction_id": "26"}, "line 1: instruction_id"),
        ({"path": []}, "line 1: path"),
        ({"scan": "../x"}, "line 1: scan"),
        ({"heading": None}, "line 1: heading"),
        ({"language": 3}, "line 1: language"),
        ({"instruction": ["go"]}, "line 1: instruction"),
        ({"path_id": 1.5}, "line 1: path_id"),
        ({"instr_encoding": [-1]}, "line 1: instr_encoding"),
    ],
)
def test_faults_name_line_and_field(tmp_path: Path, change: Any, named: str) -> None:
    file = lines(tmp_path / "bad.jsonl", GUIDE | change)
    with pytest.raises(InputError) as error:
        read_rxr(file)
    assert named in str(error.value) and "bad.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def test_broken_files_name_the_line(tmp_path: Path) -> None:
    file = lines(tmp_path / "twice.jsonl", GUIDE, GUIDE)
    with pytest.raises(InputError, match="instr_id 11_26 occurs twice"):
        read_rxr(file)
    (tmp_path / "cut.jsonl").write_text(json.dumps(GUIDE) + '\n{"path_id": 1')
    with pytest.raises(InputError, match=r"cut.jsonl: line 2: not valid JSON"):
        read_rxr(tmp_path / "cut.jsonl")
    whole = lines(tmp_path / "cut.jsonl.gz", *[GUIDE | {"instruction_id": n} for n in range(99)])
    whole.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cut.jsonl.gz.*line"):
        read_rxr(whole)
    with pytest.raises(InputError, match="name the split"):
        read_rxr(tmp_path)
    with pytest.raises(InputError, match="role must be guide or follower"):
        read_rxr(file, role="walker")  # type: ignore[arg-type]


def test_what_rxr_cannot_say_is_not_written(toy_house: Path, folder: Path) -> None:
    guides, followers = (read_rxr(folder, "val_seen", role=r) for r in ("guide", "follower"))
    with pytest.raises(InputError, match="files of their own"):
        write_rxr(folder / "out.jsonl", [*guides, *followers])
    with pytest.raises(InputError, match=r"instruction_id is None, language None; RxR numb"):
        write_rxr(folder / "out.jsonl", read_r2r(toy_house, "val_seen")[:1])
    assert not (folder / "out.jsonl").exists()
