"""What a reader of R2R's form reads, its writer gives back: R2R, R4R and FGR2R."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterna.data.layout import Layout
from sterna.data.r2r import read_r2r, write_r2r
from sterna.files import read_json

TEXT = st.sampled_from(["Walk.", "a\nb", "हिन्दी", 'é "q"', "1", "null"])
NAME = st.sampled_from(["scan-1", "a_b", "17DRP5", "x.y", "0"])
NUMBER = st.floats(-100, 100)
FURTHER = {  # R4R's and FGR2R's own fields
    "first_path_id": st.integers(0, 9999),
    "second_path_id": st.integers(0, 9999),
    "shortest_path_distance": NUMBER,
    "shortest_path": st.lists(TEXT, max_size=4),
    "new_instructions": TEXT,
    "chunk_view": st.lists(st.lists(st.lists(st.integers(1, 7), max_size=2))),
}


@st.composite
def entries(draw):
    entry = draw(
        st.fixed_dictionaries(
            {
                "scan": NAME,
                "heading": NUMBER,
                "path": st.lists(NAME, min_size=1, max_size=5),
                "instructions": st.lists(TEXT, min_size=1, max_size=3),
            },
            optional={"distance": st.floats(0, 100), **FURTHER},
        )
    )
    count = len(entry["instructions"])
    tokens = st.lists(st.integers(0, 30000), max_size=5)
    if draw(st.booleans()):
        entry["instr_encodings"] = draw(st.lists(tokens, min_size=count, max_size=count))
    return entry


def same(rows, folder):
    """The rows after read, write; and the episodes of both files."""
    first, second = Path(folder, "a.json"), Path(folder, "b.json")
    first.write_text(json.dumps(rows), encoding="utf-8")
    episodes = read_r2r(first)
    write_r2r(second, episodes)
    assert json.loads(second.read_text(encoding="utf-8")) == rows
    assert read_r2r(second) == episodes


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(entries(), min_size=1, max_size=4))
def test_any_file_of_this_form(rows):
    with TemporaryDirectory() as folder:
        same([row | {"path_id": i} for i, row in enumerate(rows)], folder)


@pytest.mark.parametrize("data_set", ["r4r", "fgr2r"])
def test_the_published_files(data_dir, data_set, tmp_path):
    same(read_json(Layout(data_dir).annotations(data_set, "val_seen")), tmp_path)
