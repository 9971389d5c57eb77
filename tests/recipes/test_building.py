"""One's own building: what is written is right, and every fault is one line before anything is."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli_tools import sterna
from sterna.data.building import PosesConfig, read_places
from sterna.data.placement import edges
from sterna.data.r2r import read_r2r
from sterna.data.views import ViewStore
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.encoder import SHIPPED, load_encoder
from sterna.models.tokens import Tokenizer
from sterna.recipes.building import ImportConfig, import_building
from sterna.world.graph import read_graph
from sterna.world.panorama import views_of

Capture = pytest.CaptureFixture[str]
Rows = list[dict[str, Any]]

# Two rooms of three panoramas, a door between b and d.
POSES: Rows = [
    {"id": "a", "x": 0, "y": 0, "z": 1.5, "heading": 0},
    {"id": "b", "x": 2, "y": 0, "z": 1.5, "heading": 90},
    {"id": "c", "x": 0, "y": 2, "z": 1.5, "heading": 200},
    {"id": "d", "x": 4, "y": 0, "z": 1.5, "heading": 270},
    {"id": "e", "x": 6, "y": 0, "z": 1.5, "heading": 359},
    {"id": "f", "x": 6, "y": 0, "z": 4.5, "heading": 12},
]


def building(folder: Path, rows: Rows = POSES, *, height: int = 64) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in rows:
        pixels = rng.integers(0, 255, (8, 16, 3)).astype(np.uint8)
        picture = Image.fromarray(pixels).resize((2 * height, height))
        picture.save(folder / f"{row['id']}.png")
    write_poses(folder, rows)
    return folder


def write_poses(folder: Path, rows: Rows) -> None:
    with (folder / "poses.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


QUICK = ImportConfig(climb=3.2, paths=5, train=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported building; treat it as read-only."""
    root = tmp_path_factory.mktemp("building")
    return import_building(QUICK, building(root / "office"), root / "data").out


def test_the_graph_is_where_the_poses_are(made: Path) -> None:
    graph = read_graph(made / "connectivity" / "office_connectivity.json")
    assert graph.viewpoints == tuple("abcdef")
    found = {"".join(sorted("abcdef"[i] for i in (n, m))) for n in range(6) for m in
             graph.neighbours(n)}  # fmt: skip
    assert found == {"ab", "ac", "bc", "bd", "de", "ef"}
    assert graph.distances[0, 5] == pytest.approx(2 + 2 + 2 + 3)
    assert (made / "connectivity" / "scans.txt").read_text() == "office\n"
    rows = read_json(made / "connectivity" / "office_connectivity.json")
    pose = np.array(rows[1]["pose"]).reshape(4, 4)
    assert pose[:3, 3].tolist() == [2, 0, 1.5] and rows[1]["height"] == 1.5
    assert pose[:3, :3] @ [0, 1, 0] == pytest.approx([1, 0, 0])  # heading 90: to the east


def test_features_are_views_of_the_panoramas(made: Path) -> None:
    encoder = load_encoder(SHIPPED)
    with Image.open(made.parent / "office" / "c.png") as file:
        picture = np.asarray(file.convert("RGB"))
    views = views_of(picture, encoder.pixels, heading=math.radians(200))
    with ViewStore.open(made / "features" / "houses.hdf5") as store:
        assert len(store.keys) == 6 and store.attrs["digest"] == encoder.digest
        apart = np.abs(store.views("office", "c") - encoder(views))
    assert apart.max() < 1e-2


def test_paths_are_drawn_and_told_in_known_words(made: Path) -> None:
    episodes = {split: read_r2r(made, split) for split in ("train", "val_unseen")}
    assert {split: len(some) for split, some in episodes.items()} == {"train": 8, "val_unseen": 10}
    paths = [e.path for some in episodes.values() for e in some[::2]]
    assert len(set(paths)) == 9 and min(map(len, paths)) >= 3
    ids = [e.instr_id for some in episodes.values() for e in some]
    assert len(set(ids)) == len(ids)
    reader = Tokenizer(made / "tokenizer.json")
    texts = [e.instruction for some in episodes.values() for e in some]
    assert all(1 not in words for words in reader.batch(texts, 100)), "no word is unknown"
    east = next(e for e in episodes["train"] + episodes["val_unseen"] if e.path[-2:] == ("e", "f"))
    assert "go up the stairs" in east.instruction.lower()


def test_everything_is_usable(made: Path, tmp_path: Path, capsys: Capture) -> None:
    said = sterna(capsys, "data", "check", made, "--full", "--json").json
    assert said["ok"] and said["missing"] == {} and {r["status"] for r in said["rows"]} == {"ok"}
    picture = tmp_path / "walk.png"
    assert sterna(capsys, "show", "4_0", "--data", made, "--out", picture).code == 0
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 100


def test_episodes_of_ones_own(tmp_path: Path) -> None:
    folder = building(tmp_path / "office")
    write_json(
        tmp_path / "mine.json",
        [
            {"path": ["a", "b", "d"], "instructions": ["Go to d.", "Walk."], "heading": 90},
            {"start": "a", "goal": "f", "instruction": "Up."},
        ],
    )
    config = replace(QUICK, episodes=tmp_path / "mine.json", split="test_own", train=2)
    made = import_building(config, folder, tmp_path / "data")
    assert made.episodes == {"test_own": 3, "train": 4}
    own = read_r2r(made.out / "r2r" / "R2R_test_own.json")
    assert [e.path for e in own] == [("a", "b", "d")] * 2 + [("a", "b", "d", "e", "f")]
    assert own[0].heading == pytest.approx(math.pi / 2)
    assert own[2].heading == pytest.approx(math.pi / 2)  # it faces its way, to the east
    assert own[2].instr_id == "1_0" and own[2].distance == pytest.approx(9)
    write_json(tmp_path / "mine.json", [{"path": ["a", "f"], "instruction": "Fly."}])
    with pytest.raises(InputError, match=r"entry 0: a and f are no neighbours"):
        import_building(config, folder, tmp_path / "other")
    write_json(tmp_path / "mine.json", [{"start": "a", "goal": "z", "instruction": "Hm."}])
    with pytest.raises(InputError, match=r"entry 0: .*'z' is no panorama here"):
        import_building(config, folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_killed_import_goes_on(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen is not looked at again, and the bytes are those of one that was not killed."""
    from sterna.recipes import building as recipe

    folder, looked = building(tmp_path / "office"), []

    def looking(place: Any) -> Any:
        if len(looked) == 4:
            raise KeyboardInterrupt
        looked.append(place.name)
        return whole(place)

    whole = recipe.read_panorama
    monkeypatch.setattr(recipe, "read_panorama", looking)
    with pytest.raises(KeyboardInterrupt):
        import_building(QUICK, folder, tmp_path / "data")
    assert not (tmp_path / "data" / "features" / "houses.hdf5").exists()
    with pytest.raises(InputError, match="made with another paths; give another --out"):
        import_building(replace(QUICK, paths=3), folder, tmp_path / "data")
    looked.clear()
    import_building(QUICK, folder, tmp_path / "data")
    assert looked == ["e", "f"] and not (tmp_path / "data" / ".parts").exists()
    for file in ("r2r/R2R_train.json", "connectivity/office_connectivity.json", "tokenizer.json"):
        assert (made / file).read_bytes() == (tmp_path / "data" / file).read_bytes()
    stores = [ViewStore.open(root / "features/houses.hdf5") for root in (made, tmp_path / "data")]
    with stores[0] as one, stores[1] as two:
        assert np.array_equal(one.table(one.keys), two.table(one.keys))
    looked.clear()
    assert import_building(QUICK, folder, tmp_path / "data").edges == 6 and not looked
    assert not (tmp_path / "data" / ".parts").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files already"):
        import_building(QUICK, folder, tmp_path / "full")


def changed(number: int, **fields: Any) -> Rows:
    return [row | fields if i == number else dict(row) for i, row in enumerate(POSES)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(2, id="a"), ("id a stands twice",)),
        (changed(2, x="nan"), ("line 4", "x must be a finite number", "'nan'")),
        (changed(2, heading=""), ("line 4", "heading must be a finite number")),
        (changed(2, id="no/name"), ("line 4", "an id has letters")),
        (changed(2, id="g"), ("line 4", "panorama g has no picture", "g.jpg")),
        ([{**row, "image": "../x.png"} for row in POSES], ("has no picture", "../x.png")),
        ([{**row, "neighbours": "q"} for row in POSES], ("a names 'q'", "no panorama here")),
        ([{**row, "neighbours": row["id"]} for row in POSES], ("names 'a'", "itself")),
        (changed(1, x=0.01), ("a and b stand at one place",)),
        ([{**row, "x": 1000 * row["x"], "y": 1000 * row["y"]} for row in POSES],
         ("nearest neighbour", "--scale")),
        ([{**row, "heading": math.radians(row["heading"])} for row in POSES],
         ("within 6.26", "--angles radians")),
        ([{k: v for k, v in row.items() if k != "z"} for row in POSES], ("line 2: z missing",)),
        (POSES[:1], ("two panoramas or more, found 1",)),
        (changed(5, x=16), ("falls into 2 parts", "1 of 6 panoramas (f, ...)", "from f to e",
                            "--reach")),
    ],
)  # fmt: skip
def test_faults_are_one_line(
    rows: Rows, words: tuple[str, ...], tmp_path: Path, capsys: Capture
) -> None:
    folder = building(tmp_path / "office")
    write_poses(folder, rows)
    said = sterna(capsys, "data", "import", folder, "--out", tmp_path / "data", "--climb", "3.2")
    said.refused(*words)
    assert not (tmp_path / "data").exists()


def test_pictures_that_are_no_panoramas_are_named(tmp_path: Path, capsys: Capture) -> None:
    folder = building(tmp_path / "office")
    words = ("data", "import", folder, "--out", tmp_path / "data", "--climb", "3.2")
    (folder / "c.png").write_bytes(b"no picture")
    sterna(capsys, *words).refused("c.png: no picture that can be read")
    Image.new("RGB", (300, 200)).save(folder / "c.png")
    sterna(capsys, *words).refused("c.png: expected an equirectangular panorama", "300x200")
    sterna(capsys, "data", "import", tmp_path / "x", "--out", tmp_path / "data").refused(
        "no such folder"
    )
    (folder / "poses.json").write_text("[]")
    sterna(capsys, *words).refused("expected poses.csv or poses.json, both lie there")
    assert not (tmp_path / "data").exists()


def linked(folder: Path, config: PosesConfig) -> set[str]:
    places = read_places(folder, folder / "poses.csv", config)
    found = np.argwhere(np.triu(edges(places, config)))
    return {places[i].name + places[j].name for i, j in found}


def test_neighbours_walls_and_units(tmp_path: Path) -> None:
    named = [{**row, "neighbours": to} for row, to in zip(
        POSES, ("b c", "d", "", "e", "", "e"), strict=True)]  # fmt: skip
    folder = building(tmp_path / "named", named)
    assert linked(folder, PosesConfig()) == {"ab", "ac", "bd", "de", "ef"}
    folder = building(tmp_path / "far")
    near = PosesConfig(climb=3.2)
    assert linked(folder, near) == {"ab", "ac", "bc", "bd", "de", "ef"}
    walls = tmp_path / "walls.csv"
    walls.write_text("x1,y1,x2,y2\n0.5,0.5,1.9,1.9\n")
    assert linked(folder, replace(near, walls=walls)) == {"ab", "ac", "bd", "de", "ef"}
    walls.write_text("x1,y1,x2,y2\n8,0,9,0\n6,3,6,4\n")  # in line with edges, beyond them
    assert linked(folder, replace(near, walls=walls)) == linked(folder, near)
    walls.write_text("x1,y1,x2,y2,low,high\n3,-1,3,1,3,6\n0.5,0.5,1.9,1.9,0,3\n")
    assert linked(folder, replace(near, walls=walls)) == {"ab", "ac", "bd", "de", "ef"}
    walls.write_text("x1,y1,x2,y2\n3,-1,3,1\n")
    with pytest.raises(InputError, match=r"2 parts; 3 of 6 panoramas .*2\.00 m"):
        linked(folder, replace(near, walls=walls))
    millimetres = [
        row | {axis: 1000 * row[axis] for axis in "xyz"} | {"heading": 90 - row["heading"]}
        for row in POSES
    ]
    folder = building(tmp_path / "units", millimetres)
    config = replace(near, scale=0.001, turns="ros")
    for place, row in zip(read_places(folder, folder / "poses.csv", config), POSES, strict=True):
        assert place.position == pytest.approx((row["x"], row["y"], row["z"]))
        assert math.degrees(place.heading) == pytest.approx(row["heading"])
