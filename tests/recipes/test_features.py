"""Features in the published layouts: the same numbers however they are extracted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cli_tools import sterna
from sterna.data.boxes import Boxes, SeenObject, write_boxes
from sterna.data.objects import direction_of_pixel, read_objects
from sterna.data.panoramas import PanoramaFolder
from sterna.data.viewfile import Shot, camera_angles, write_views
from sterna.data.views import ViewStore
from sterna.errors import InputError
from sterna.files import write_json
from sterna.models.vision import open_vision
from sterna.recipes import features
from sterna.recipes.featureconfig import FeatureConfig, ObjectConfig, read_shard
from sterna.recipes.featuremerge import merge_features
from toy_eyes import write_encoder, write_pictures

pytest.importorskip("transformers", reason="the extra vlm is not installed")

SCANS = {"one": 5, "two": 6}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), SCANS)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("eyes")
    return {kind: write_encoder(root / kind, kind) for kind in ("clip", "vit-imagenet")}


@pytest.fixture(scope="module")
def whole(pictures: Path, eyes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The views of all viewpoints, by CLIP, in one go."""
    out = tmp_path_factory.mktemp("whole") / "views.hdf5"
    features.extract_views(config(pictures, eyes), out)
    return out


def config(pictures: Path, eyes: dict[str, Path], kind: str = "clip", **more: Any) -> FeatureConfig:
    return FeatureConfig(encoder=str(eyes[kind]), pictures=pictures, device="cpu", **more)


def contents(path: Path) -> dict[str, Any]:
    """Everything in a file: values as bytes, all attributes."""

    def attrs(item: Any) -> dict[str, Any]:
        return {key: np.asarray(value).tolist() for key, value in item.attrs.items()}

    with h5py.File(path) as file:
        items = {
            key: (item.shape, item.dtype.str, item.compression, item[()].tobytes(), attrs(item))
            for key, item in file.items()
        }
        return {"root": attrs(file), **items}


@contextmanager
def interrupted_after(count: int) -> Iterator[None]:
    """Let a run be interrupted when it is about to keep one viewpoint more than `count`."""
    keep, done = features._write_part, []

    def stopping(*arguments: Any) -> None:
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(keep(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_write_part", stopping)
        yield


def test_features_are_the_encoders_in_the_views_order(
    whole: Path, pictures: Path, eyes: dict[str, Path]
) -> None:
    encoder, folder = open_vision(str(eyes["clip"]), device="cpu"), PanoramaFolder(pictures)
    with ViewStore.open(whole) as store:
        assert store.keys == tuple(f"{scan}_{v}" for scan, v in folder.places)
        assert (store.n_views, store.size, store.has_logits) == (36, 24, False)
        assert store.attrs["source"] == "clip" and store.attrs["digest"] == encoder.digest
        for scan, viewpoint in folder.places[::4]:
            wanted, _ = encoder(encoder.prepare(list(folder.views(scan, viewpoint))))
            np.testing.assert_array_equal(store.views(scan, viewpoint), wanted)
    assert [file.name for file in whole.parent.iterdir()] == [whole.name]


def test_layout_is_the_published_one(pictures: Path, eyes: dict[str, Path], tmp_path: Path) -> None:
    """Beside a file written with h5py as HAMT's extractor writes it: float64, gzip, attributes."""
    out = tmp_path / "mine.hdf5"
    settings = config(pictures, eyes, "vit-imagenet", dtype="float64")
    written = features.extract_views(settings, out)
    assert (written.size, written.logits) == (32, 1000)
    encoder, folder = open_vision(str(eyes["vit-imagenet"]), device="cpu"), PanoramaFolder(pictures)
    with h5py.File(tmp_path / "theirs.hdf5", "w") as file:
        for scan, viewpoint in folder.places:
            found = encoder(encoder.prepare(list(folder.views(scan, viewpoint))))
            data = np.hstack(found)
            item = file.create_dataset(
                f"{scan}_{viewpoint}", data.shape, dtype="float", compression="gzip"
            )
            item[...] = data
            item.attrs["scanId"], item.attrs["viewpointId"] = scan, viewpoint
            item.attrs["image_w"], item.attrs["image_h"], item.attrs["vfov"] = 64, 48, 60
    mine, theirs = contents(out), contents(tmp_path / "theirs.hdf5")
    mine.pop("root"), theirs.pop("root")
    assert mine == theirs
    with ViewStore.open(out) as store:
        assert store.has_logits and store.logits("one", "00").shape == (36, 1000)


def test_a_run_that_is_interrupted_goes_on(
    whole: Path, pictures: Path, eyes: dict[str, Path], tmp_path: Path
) -> None:
    out, settings = tmp_path / "views.hdf5", config(pictures, eyes)
    for stop in (3, 4):
        with interrupted_after(stop), pytest.raises(KeyboardInterrupt):
            features.extract_views(settings, out)
        assert not out.exists()
    parts = sorted((tmp_path / ".views.hdf5.parts").glob("*.npy"))
    assert len(parts) == 7
    stamps = [part.stat().st_mtime_ns for part in parts]
    with interrupted_after(4):  # all that is left
        features.extract_views(settings, out)
    assert len(stamps) == 7 and contents(out) == contents(whole)
    with interrupted_after(0):  # nothing is done twice
        assert features.extract_views(settings, out).viewpoints == 11
    assert [file.name for file in tmp_path.iterdir()] == ["views.hdf5"]


def test_killed_among_processes(
    whole: Path, pictures: Path, eyes: dict[str, Path], tmp_path: Path
) -> None:
    """One process, killed without warning; two go on."""
    out = tmp_path / "views.hdf5"
    words = ["features", "views", pictures, "--encoder", eyes["clip"], "--out", out]
    words += ["--workers", "1", "--device", "cpu"]
    run = subprocess.Popen(
        [sys.executable, "-m", "sterna.cli", *map(str, words)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / ".views.hdf5.parts"
    until = time.monotonic() + 150
    while len(list(folder.glob("*.npy"))) < 2 and run.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    with suppress(ProcessLookupError):  # it was quicker
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert len(list(folder.glob("*.npy"))) >= 2 or out.exists()
    features.extract_views(config(pictures, eyes), out, workers=2)
    assert contents(out) == contents(whole)


def test_shards_join_to_the_whole(
    whole: Path,
    pictures: Path,
    eyes: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [tmp_path / f"{number}.hdf5" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        words = ("--encoder", eyes["clip"], "--out", part, "--device", "cpu", "--workers", 1)
        said = sterna(
            capsys, "features", "views", pictures, *words, "--shard", f"{number}/3", "--json"
        )
        assert said.json["shard"] == f"{number}/3" and 3 <= said.json["viewpoints"] <= 4
    out = tmp_path / "all.hdf5"
    said = sterna(capsys, "features", "merge", *reversed(parts), "--out", out, "--json")
    assert said.json == {"out": str(out), "viewpoints": 11, "files": 3}
    assert contents(out) == contents(whole)
    sterna(capsys, "features", "merge", *parts, parts[0], "--out", out).refused("one_00", "once")
    sterna(capsys, "features", "merge", *parts, "--out", parts[0]).refused("another --out")
    other = tmp_path / "other.hdf5"
    features.extract_views(config(pictures, eyes, dtype="float16"), other, shard=(1, 3))
    with pytest.raises(InputError, match="other settings"):
        merge_features([other, parts[1]], out)
    assert contents(out) == contents(whole)


def test_halves_are_close(
    whole: Path, pictures: Path, eyes: dict[str, Path], tmp_path: Path
) -> None:
    """float16 in the file: rounding alone (2^-11); bf16 in the network: 2e-2 of a row's length."""
    half, narrow = tmp_path / "half.hdf5", tmp_path / "narrow.hdf5"
    features.extract_views(config(pictures, eyes, dtype="float16", scans=("one",)), half)
    features.extract_views(config(pictures, eyes, precision="bf16", scans=("one",)), narrow)
    stores = [ViewStore.open(path) for path in (whole, half, narrow)]
    for viewpoint in ("00", "03"):
        exact, rounded, rough = (store.views("one", viewpoint) for store in stores)
        np.testing.assert_allclose(rounded, exact, rtol=2**-11, atol=1e-7)
        apart = np.linalg.norm(rough - exact, axis=1)
        assert apart.max() > 0 and (apart <= 2e-2 * np.linalg.norm(exact, axis=1)).all()
    with h5py.File(half) as file:
        assert file["one_00"].dtype == np.float16
    for store in stores:
        store.close()


def test_other_settings_are_refused(
    pictures: Path, eyes: dict[str, Path], tmp_path: Path, whole: Path
) -> None:
    out = tmp_path / "views.hdf5"
    with interrupted_after(1), pytest.raises(KeyboardInterrupt):
        features.extract_views(config(pictures, eyes), out)
    with pytest.raises(InputError, match="precision: fp32 there, bf16 now"):
        features.extract_views(config(pictures, eyes, precision="bf16"), out)
    with pytest.raises(InputError, match="other settings"):
        features.extract_views(config(pictures, eyes, dtype="float16"), whole)
    with pytest.raises(InputError, match="holds 11 viewpoints, asked for are 5"):
        features.extract_views(config(pictures, eyes, scans=("one",)), whole)
    moved = write_pictures(tmp_path / "elsewhere" / pictures.name, {"one": 1})
    with pytest.raises(InputError, match=r"from: .* there, .*elsewhere.* now"):
        features.extract_views(config(moved, eyes), out)
    with h5py.File(whole) as file:  # of the machine it was made on it says nothing
        assert str(pictures.parent) not in str(dict(file.attrs))
    damaged = next((tmp_path / ".views.hdf5.parts").glob("*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{damaged.name}: damaged"):
        features.extract_views(config(pictures, eyes), out)
    assert not out.exists()


def test_logits_that_are_not_there(pictures: Path, eyes: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no classes, the layout holds 1000 logits"):
        features.extract_views(config(pictures, eyes, logits="yes"), tmp_path / "x.hdf5")
    bare = config(pictures, eyes, "vit-imagenet", logits="no", scans=("one",))
    assert features.extract_views(bare, tmp_path / "bare.hdf5").logits == 0
    assert [file.name for file in tmp_path.iterdir()] == ["bare.hdf5"]


# --- objects -------------------------------------------------------------------------------------


def seen(object_id: int, *boxes: tuple[int, tuple[float, ...]]) -> SeenObject:
    views, places = zip(*boxes, strict=True) if boxes else ((), ())
    return SeenObject(object_id=object_id, name="a chair", views=views, boxes=places)


BOXES = Boxes(
    {
        ("one", "00"): [
            seen(7, (12, (100.0, 100.0, 200.0, 150.0)), (13, (0.0, 50.0, 90.0, 90.0))),
            seen(8),  # hidden: not in the file
            seen(9, *((v, (10.0 * v, 10.0, 20.0 + v, 30.0)) for v in (3, 14, 20, 21))),
        ],
        ("one", "01"): [seen(7)],
        ("two", "03"): [seen(2, (35, (600.0, 440.0, 40.0, 40.0)))],
        ("elsewhere", "00"): [seen(1, (0, (0.0, 0.0, 9.0, 9.0)))],
    }
)


def test_objects_are_cut_out_of_their_largest_boxes(
    pictures: Path, eyes: dict[str, Path], tmp_path: Path
) -> None:
    settings = ObjectConfig(encoder=str(eyes["vit-imagenet"]), pictures=pictures, device="cpu")
    out = tmp_path / "obj.hdf5"
    written = features.extract_objects(settings, out, BOXES)
    assert (written.viewpoints, written.size, written.logits) == (2, 32, 1000)
    encoder, folder = open_vision(str(eyes["vit-imagenet"]), device="cpu"), PanoramaFolder(pictures)
    views = folder.views("one", "00")
    # Of 64 x 48 pixels: a tenth of the boxes' 640 x 480, at least 8 (80 / 10) wide and high.
    cuts = [views[12, 10:25, 10:30], views[13, 5:14, 0:9]]
    wanted = encoder(encoder.prepare(cuts))
    store = read_objects(out, logits=True)
    placed = store.at("one_00")
    assert placed.ids.tolist() == [7, 9] and set(store.keys) == {"one_00", "two_03"}
    np.testing.assert_allclose(placed.features[0], wanted[0].mean(0), rtol=1e-6, atol=1e-6)
    assert wanted[1] is not None and placed.logits is not None
    np.testing.assert_allclose(placed.logits[0], wanted[1].mean(0), rtol=1e-6, atol=1e-6)
    assert placed.sizes.tolist() == [[200.0, 150.0], [41.0, 30.0]]
    assert placed.directions[0].tolist() == list(direction_of_pixel(12, 200.0, 175.0))
    with h5py.File(out) as file:
        attrs = dict(file["two_03"].attrs)
        assert set(attrs) == {
            *("obj_ids", "directions", "sizes", "bboxes"),
            *("scanId", "viewpointId", "image_w", "image_h", "vfov"),
        }
        assert attrs["bboxes"].tolist() == [[600.0, 440.0, 40.0, 40.0]]
        assert (attrs["scanId"], attrs["viewpointId"]) == ("two", "03")
        assert file["two_03"].shape == (1, 1032)


def test_objects_resume_and_shards(pictures: Path, eyes: dict[str, Path], tmp_path: Path) -> None:
    settings = ObjectConfig(encoder=str(eyes["clip"]), pictures=pictures, device="cpu", top=1)
    out, again = tmp_path / "obj.hdf5", tmp_path / "again.hdf5"
    features.extract_objects(settings, out, BOXES)
    with interrupted_after(1), pytest.raises(KeyboardInterrupt):
        features.extract_objects(settings, again, BOXES)
    features.extract_objects(settings, again, BOXES)
    assert contents(again) == contents(out)
    parts = [tmp_path / f"{number}.hdf5" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        features.extract_objects(settings, part, BOXES, shard=(number, 2))
    merge_features(parts, again)
    assert contents(again) == contents(out)
    with pytest.raises(InputError, match="other settings"):
        features.extract_objects(
            settings, out, Boxes({("one", "00"): [seen(3, (0, (0.0,) * 2 + (9.0,) * 2))]})
        )
    with pytest.raises(InputError, match="no object is seen"):
        features.extract_objects(
            settings, tmp_path / "none.hdf5", Boxes({("one", "01"): [seen(7)]})
        )


# --- houses, command line ------------------------------------------------------------------------


def test_houses_are_rendered(
    eyes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A house of which one viewpoint is known, through the command line, views and objects."""
    from sterna.recipes.housefiles import connectivity
    from sterna.world.houses import make_house
    from sterna.world.houses.ground import ground_of
    from sterna.world.houses.render import Renderer
    from sterna.world.houses.viewpoints import place_viewpoints

    house = make_house(3)
    places = place_viewpoints(house, ground_of(house))
    entries = connectivity(places)
    for number, entry in enumerate(entries):
        entry["included"] = number == 0
    root, name = tmp_path / "data", str(entries[0]["image_id"])
    write_json(root / "connectivity" / "house-000003_connectivity.json", entries)
    out = tmp_path / "views.hdf5"
    eye = ("--encoder", eyes["clip"], "--device", "cpu", "--workers", 1, "--json")
    said = sterna(capsys, "features", "views", "--houses", root, "--out", out, *eye)
    assert said.json["viewpoints"] == 1 and said.json["size"] == 24
    rgb = Renderer(house).panorama(places.graph.positions[0], (640, 480), views=slice(7, 9)).rgb
    encoder = open_vision(str(eyes["clip"]), device="cpu")
    with ViewStore.open(out) as store:
        assert store.keys == (f"house-000003_{name}",)
        found = store.views("house-000003", name)
        wanted = encoder(encoder.prepare(list(rgb)))[0]
        np.testing.assert_allclose(found[7:9], wanted, rtol=1e-5, atol=1e-6)
        assert len(np.unique(found.round(4), axis=0)) > 30
    thing = seen(4, (14, (10.0, 10.0, 50.0, 50.0)))
    write_boxes(root / "BBoxes.json", Boxes({("house-000003", name): [thing]}))
    objects = tmp_path / "objects.hdf5"
    said = sterna(capsys, "features", "objects", "--houses", root, "--out", objects, *eye)
    assert said.json["viewpoints"] == 1 and read_objects(objects, feature_size=24).size == 24
    write_json(root / "connectivity" / "mp3d_connectivity.json", entries)
    said = sterna(capsys, "features", "views", "--houses", root, "--out", out, *eye)
    said.refused("mp3d is no house made from a seed")


def test_bad_usage_is_one_line(
    capsys: pytest.CaptureFixture[str], pictures: Path, eyes: dict[str, Path], tmp_path: Path
) -> None:
    def run(*words: object) -> Any:
        base = ("--encoder", eyes["clip"], "--out", tmp_path / "x.hdf5")
        return sterna(capsys, "features", "views", *base, *words)

    run().refused("give a folder of pictures, or --houses DIR")
    run(pictures, "--houses", tmp_path).refused("not both")
    run(pictures, "--shard", "3/2").refused("expected i/n")
    run(pictures, "--shard", "1/12").refused("nothing left of 11")
    run(pictures, "--batch-size", 0).refused("batch size is at least 1")
    run(pictures, "--workers", 0).refused("--workers is at least 1")
    run(pictures, "--scans", "three").refused("no folder of scan three")
    run(tmp_path / "nowhere").refused("no such folder of pictures")
    sterna(capsys, "features", "objects", pictures, "--encoder", eyes["clip"], "--out", "x",
           "--boxes", tmp_path / "none.json").refused("no such file")  # fmt: skip
    assert read_shard("2/4") == (2, 4)
    assert list(tmp_path.iterdir()) == []
    for words in (("features", "views"), ("features", "objects"), ("features", "merge")):
        said = sterna(capsys, *words, "--help")
        assert said.code == 0 and "--out" in said.out


# --- real features -------------------------------------------------------------------------------


def test_real_features_of_three_scans_fit_the_layout(data_dir: Path, tmp_path: Path) -> None:
    """EfficientNet features of 31 panoramas: written in HAMT's layout they open here unchanged.

    That rows stand in the simulator's order is checked by what is in them: views side by side look
    alike, the more the nearer (mean cosines measured on the source), and the picture taken towards
    a neighbour looks most like a view towards it.
    """
    source = data_dir / "features" / "valan_efficientnet_3scans.npz"
    if not source.is_file():
        pytest.skip(f"{source} is not there: the layout is not checked on real features")
    data = np.load(source, allow_pickle=False)
    headings, elevations = camera_angles()
    columns = np.rint(np.rad2deg(data["view_heading"]) / 30).astype(int)
    rows = np.rint(np.rad2deg(data["view_pitch"]) / 30).astype(int) + 1
    order = np.empty(36, int)
    order[12 * rows + columns] = np.arange(36)
    np.testing.assert_allclose(data["view_heading"][order], headings, atol=1e-6)
    np.testing.assert_allclose(data["view_pitch"][order], elevations, atol=1e-6)
    values = {
        f"scan_{v}": f[order] for v, f in zip(data["viewpoint"], data["view_feature"], strict=True)
    }
    path = tmp_path / "efficientnet.hdf5"
    assert write_views(path, values, headings, elevations, shot=Shot()) == 31
    with h5py.File(path) as file:
        item = file[next(iter(values))]
        assert item.shape == (36, 1792) and item.dtype == np.float32 and item.compression == "gzip"
        assert set(item.attrs) == {"scanId", "viewpointId", "image_w", "image_h", "vfov"}
    with ViewStore.open(path) as store:  # 1792 is no usual width: the file itself states it
        assert set(store.keys) == set(values) and (store.size, store.has_logits) == (1792, False)
        store.check()
        for key, array in values.items():
            assert store.table([key])[0].tobytes() == array.tobytes()
        unit = {key: _unit(store.table([key])[0]) for key in store.keys}
    level = np.stack([rows[12:24] for rows in unit.values()])
    for step, cosine in ((1, 0.794), (2, 0.636), (3, 0.574), (6, 0.544)):
        assert (level * np.roll(level, step, 1)).sum(-1).mean() == pytest.approx(cosine, abs=5e-4)
    near = 0
    for place, heading, pitch, seen_there in zip(
        data["conn_from"],
        data["conn_heading"],
        data["conn_pitch"],
        data["conn_feature"],
        strict=True,
    ):
        likest = int((unit[f"scan_{place}"] @ _unit(seen_there)).argmax())
        turn = (headings[likest] - heading + np.pi) % (2 * np.pi) - np.pi
        near += np.hypot(turn, elevations[likest] - pitch) < np.deg2rad(30)
    assert near >= 0.9 * len(data["conn_from"])


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)
