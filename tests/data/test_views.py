"""View stores: what goes in comes out, and every fault names file and key."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sterna.data.views import InMemoryViews, ViewStore, camera_angles, write_views
from sterna.errors import InputError

KEYS = [f"house_{i:02d}" for i in range(12)]


def _arrays(views: int = 36, width: int = 768) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {key: rng.normal(size=(views, width)).astype(np.float32) for key in KEYS}


def _write_plain(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A file as HAMT's extractor writes it: no root attributes, gzip, per-key attributes."""
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            dataset = file.create_dataset(key, data=values, compression="gzip")
            dataset.attrs["scanId"] = key.split("_")[0]
    return path


def test_a_published_file_with_logits(tmp_path: Path) -> None:
    arrays = _arrays(width=1768)
    with ViewStore.open(_write_plain(tmp_path / "vit.hdf5", arrays)) as store:
        assert (store.n_views, store.size, store.has_logits) == (36, 768, True)
        assert set(store.keys) == set(KEYS)
        np.testing.assert_array_equal(store.views("house", "03"), arrays["house_03"][:, :768])
        np.testing.assert_array_equal(store.logits("house", "03"), arrays["house_03"][:, 768:])
        table = store.table(KEYS[::-1])
        assert table.shape == (12, 36, 768) and table.flags.c_contiguous
        np.testing.assert_array_equal(table[0], arrays[KEYS[-1]][:, :768])
        logits = store.table(KEYS, logits=True)
        np.testing.assert_array_equal(logits[2], arrays[KEYS[2]][:, 768:])
        store.check(KEYS)


def test_camera_angles_are_those_of_the_36_views() -> None:
    headings, elevations = camera_angles()
    assert headings[0] == 0 and elevations[0] == pytest.approx(-np.pi / 6)
    assert headings[13] == pytest.approx(np.pi / 6) and elevations[13] == 0
    assert elevations[35] == pytest.approx(np.pi / 6)


@pytest.mark.parametrize("views", [8, 36])
def test_own_files_round_trip(tmp_path: Path, views: int) -> None:
    arrays = _arrays(views, 20)
    headings = np.linspace(0, 6, views)
    path = tmp_path / "own.hdf5"
    attrs = {"source": "a test"}
    assert write_views(path, arrays.items(), headings, np.zeros(views), attrs) == 12
    with ViewStore.open(path, dtype=np.float16) as store:
        assert (store.n_views, store.size, store.has_logits) == (views, 20, False)
        np.testing.assert_array_equal(store.headings, headings)
        assert store.attrs["source"] == "a test"
        assert store.views("house", "00").dtype == np.float32
        table = store.table(KEYS)
        assert table.dtype == np.float16
        np.testing.assert_array_equal(table[4], arrays[KEYS[4]].astype(np.float16))
    assert [file.name for file in tmp_path.iterdir()] == ["own.hdf5"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    arrays = _arrays(8, 4)
    arrays[KEYS[-1]] = np.full((8, 4), np.nan, np.float32)
    with pytest.raises(InputError, match=KEYS[-1]):
        write_views(tmp_path / "own.hdf5", arrays, np.zeros(8), np.zeros(8))
    assert list(tmp_path.iterdir()) == []


def test_in_memory_and_blind() -> None:
    arrays = _arrays(8, 4)
    store = InMemoryViews(arrays, np.zeros(8), np.zeros(8))
    np.testing.assert_array_equal(store.views("house", "01"), arrays["house_01"])
    blind = store.blind()
    assert (blind.n_views, blind.size, blind.keys) == (8, 4, store.keys)
    assert not blind.views("house", "01").any()
    assert blind.table(KEYS).shape == store.table(KEYS).shape
    with pytest.raises(InputError, match="house_zz"):
        blind.table(["house_zz"])


def test_missing_viewpoint(tmp_path: Path) -> None:
    path = _write_plain(tmp_path / "vit.hdf5", _arrays())
    with ViewStore.open(path) as store:
        for call in (lambda: store.views("house", "zz"), lambda: store.table(["house_zz"])):
            with pytest.raises(InputError, match=r"vit\.hdf5: viewpoint house_zz is missing"):
                call()
        with pytest.raises(InputError, match="1 of 2 viewpoints are missing, first house_zz"):
            store.check([KEYS[0], "house_zz"])
        with pytest.raises(InputError, match="logits"):
            store.logits("house", "00")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(tmp_path: Path, value: float) -> None:
    arrays = _arrays()
    arrays[KEYS[1]][7, 3] = value
    # 12 keys, a sample of 8 from the start: key 1 is read when the file is opened.
    with pytest.raises(InputError, match=r"vit\.hdf5: house_01: NaN or infinity in view 7"):
        ViewStore.open(_write_plain(tmp_path / "vit.hdf5", arrays))


def test_a_value_too_large_for_half_precision(tmp_path: Path) -> None:
    arrays = _arrays()
    arrays[KEYS[2]][0, 0] = 1e5
    path = _write_plain(tmp_path / "vit.hdf5", arrays)
    expected = pytest.raises(InputError, match=r"house_02: a value exceeds 65504.*float32")
    with ViewStore.open(path, dtype=np.float16) as store, expected:
        store.table(KEYS)


def test_wrong_sizes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"house_00: expected 512 .*, found 700; state the size"):
        ViewStore.open(_write_plain(tmp_path / "a.hdf5", _arrays(width=700)))
    with ViewStore.open(tmp_path / "a.hdf5", feature_size=700) as store:
        assert store.size == 700
    with pytest.raises(InputError, match=r"expected 768 \(\+1000 logits\) columns, found 700"):
        ViewStore.open(tmp_path / "a.hdf5", feature_size=768)
    arrays = _arrays()
    arrays[KEYS[0]] = arrays[KEYS[0]][:12]
    with pytest.raises(InputError, match="12 views need the root attributes view_headings"):
        ViewStore.open(_write_plain(tmp_path / "b.hdf5", arrays))
    arrays = _arrays()
    arrays[KEYS[3]] = arrays[KEYS[3]][:, :512]
    with pytest.raises(InputError, match=r"house_03: expected floats of shape \(36, 768\), found"):
        ViewStore.open(_write_plain(tmp_path / "c.hdf5", arrays))


def test_not_a_feature_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.hdf5: no such feature file"):
        ViewStore.open(tmp_path / "none.hdf5")
    (tmp_path / "text.hdf5").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"text\.hdf5: expected an HDF5 file"):
        ViewStore.open(tmp_path / "text.hdf5")
    content = _write_plain(tmp_path / "vit.hdf5", _arrays()).read_bytes()
    (tmp_path / "cut.hdf5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.hdf5: expected an HDF5 file.*cut short"):
        ViewStore.open(tmp_path / "cut.hdf5")
    with h5py.File(tmp_path / "empty.hdf5", "w"):
        pass
    with pytest.raises(InputError, match=r"empty\.hdf5: expected datasets scan_viewpoint"):
        ViewStore.open(tmp_path / "empty.hdf5")


def test_real_features_keep_their_values(data_dir: Path, tmp_path: Path) -> None:
    """EfficientNet features of 31 panoramas, heading-major there, view-major (DUET) in our file."""
    with np.load(data_dir / "features" / "valan_efficientnet_3scans.npz") as source:
        viewpoints, features = source["viewpoint"], source["view_feature"]
        pitches, headings = source["view_pitch"], source["view_heading"]
    own_headings, own_elevations = camera_angles()
    order = np.array([3 * (i % 12) + i // 12 for i in range(36)])
    np.testing.assert_allclose(np.mod(headings[order], 2 * np.pi), own_headings, atol=1e-5)
    np.testing.assert_allclose(pitches[order], own_elevations, atol=1e-5)
    path = tmp_path / "efficientnet.hdf5"
    items = (
        (f"scan_{name}", values[order]) for name, values in zip(viewpoints, features, strict=True)
    )
    assert write_views(path, items, own_headings, own_elevations) == 31
    with ViewStore.open(path) as store:
        store.check()
        assert (store.n_views, store.size) == (36, 1792)
        level = store.table(store.keys)[:, 12:24]
        unit = level / np.linalg.norm(level, axis=-1, keepdims=True)
        turned = [(unit * np.roll(unit, k, axis=1)).sum(-1).mean() for k in (1, 2, 3, 6)]
        np.testing.assert_allclose(turned, [0.794, 0.636, 0.574, 0.544], atol=1e-3)
        name = str(viewpoints[5])
        np.testing.assert_array_equal(store.views("scan", name), features[5][order])
