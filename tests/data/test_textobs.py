"""Text observations become a view store: right rows, right means, right after a kill."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from sterna.data.layout import Layout
from sterna.data.textobs import (
    caption_angles,
    embed_observations,
    object_name,
    observed_scans,
    read_observations,
)
from sterna.data.views import ViewStore
from sterna.errors import InputError
from sterna.world.graph import load_graph


class HashEncoder:
    """Deterministic vectors from a hash of the text; counts what it is asked to encode."""

    def __init__(self, *, width: int = 12, fail_on: str | None = None) -> None:
        self.name, self.digest, self.width = "hash", f"{width:064d}", width
        self.fail_on, self.seen = fail_on, []

    def encode(self, sentences: list[str], /) -> np.ndarray:
        if self.fail_on is not None and any(self.fail_on in text for text in sentences):
            raise KeyboardInterrupt
        self.seen += sentences
        return np.stack([self.one(text) for text in sentences])

    def one(self, text: str) -> np.ndarray:
        digest = hashlib.sha512(text.encode()).digest()[: self.width]
        return np.frombuffer(digest, np.uint8).astype(np.float32) / 255 - 0.5


def _write(root: Path, scans: int = 3) -> Path:
    captions, objects = root / "observations_list_summarized", root / "objects_list"
    captions.mkdir(parents=True)
    objects.mkdir()
    for s in range(scans):
        texts = {f"v{i}": [f"s{s} v{i} view {k % 4}" for k in range(8)] for i in range(4)}
        names = {
            v: [{"lamp_1": {}, "lamp ": {}, "bed": {}} if k == 2 else {} for k in range(8)]
            for v in texts
        }
        (captions / f"scan{s}.json").write_text(json.dumps(texts))
        (objects / f"scan{s}.json").write_text(json.dumps(names))
    return root


def test_rows_and_object_means(tmp_path: Path) -> None:
    encoder = HashEncoder()
    out = embed_observations(_write(tmp_path / "textobs"), encoder, tmp_path / "out.hdf5")
    with ViewStore.open(out) as store:
        assert (store.n_views, store.size, len(store.keys)) == (8, 24, 12)
        np.testing.assert_allclose(store.headings, caption_angles()[0])
        assert np.rad2deg(store.headings[3]) == pytest.approx(135.0)
        views = store.views("scan1", "v2")
        np.testing.assert_allclose(views[5, :12], encoder.one("s1 v2 view 1"), atol=1e-3)
        mean = (2 * encoder.one("lamp") + encoder.one("bed")) / 3
        np.testing.assert_allclose(views[2, 12:], mean, atol=1e-3)
        assert not views[[0, 1, 3, 4, 5, 6, 7], 12:].any()
        assert store.attrs["encoder"] == "hash" and store.attrs["encoder_sha256"] == encoder.digest
        assert json.loads(store.attrs["feature_parts"])["object_names"] == [12, 24]
    assert len(encoder.seen) == len(set(encoder.seen))  # every text once
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.hdf5", "textobs"]


def test_captions_only(tmp_path: Path) -> None:
    root = _write(tmp_path / "textobs")
    out = embed_observations(
        root, HashEncoder(), tmp_path / "o.hdf5", scans=["scan2"], objects=False
    )
    with ViewStore.open(out) as store:
        assert (store.size, len(store.keys)) == (12, 4)


def test_a_killed_run_continues_and_ends_the_same(tmp_path: Path) -> None:
    root = _write(tmp_path / "textobs")
    whole = embed_observations(root, HashEncoder(), tmp_path / "whole.hdf5")
    with pytest.raises(KeyboardInterrupt):
        embed_observations(root, HashEncoder(fail_on="s2"), tmp_path / "out.hdf5")
    assert not (tmp_path / "out.hdf5").exists()
    second = HashEncoder()
    out = embed_observations(root, second, tmp_path / "out.hdf5")
    assert not any(text.startswith(("s0", "s1")) for text in second.seen)
    assert out.read_bytes() == whole.read_bytes()


def test_another_encoder_never_reuses_parts(tmp_path: Path) -> None:
    root = _write(tmp_path / "textobs")
    with pytest.raises(KeyboardInterrupt):
        embed_observations(root, HashEncoder(fail_on="s2"), tmp_path / "out.hdf5")
    other = HashEncoder(width=16)
    out = embed_observations(root, other, tmp_path / "out.hdf5")
    with ViewStore.open(out) as store:
        assert store.size == 32
    assert any(text.startswith("s0") for text in other.seen)


def test_object_names() -> None:
    assert [object_name(n) for n in ("light_2", "trash can ", "bed")] == [
        "light",
        "trash can",
        "bed",
    ]


@pytest.mark.parametrize(
    ("folder", "content", "message"),
    [
        ("observations_list_summarized", {"v0": ["a"] * 7}, "'v0': expected 8 views, found 7"),
        ("observations_list_summarized", {"v0": [3] * 8}, "'v0': expected 8 captions"),
        ("observations_list_summarized", [], "expected an object of viewpoints"),
        ("objects_list", {"v0": [{}] * 8}, "'v1' has captions but no object lists"),
        ("objects_list", {f"v{i}": ["lamp"] * 8 for i in range(4)}, "'v0': expected 8 objects"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, folder: str, content: object, message: str) -> None:
    file = _write(tmp_path / "textobs") / folder / "scan0.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=re.escape(str(file))) as error:
        read_observations(tmp_path, "scan0")
    assert message in str(error.value)


def test_missing_scan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        read_observations(_write(tmp_path / "textobs"), "nowhere")


def test_coverage_of_the_published_observations(data_dir: Path, tmp_path: Path) -> None:
    out = embed_observations(data_dir, HashEncoder(), tmp_path / "out.hdf5", progress=False)
    folder = Layout(data_dir).connectivity
    with ViewStore.open(out) as store:
        assert len(store.keys) == 10567
        needed = []
        for scan in observed_scans(data_dir):
            graph = load_graph(folder, scan)
            degree = np.diff(graph.indptr)
            needed += [f"{scan}_{v}" for v, d in zip(graph.viewpoints, degree, strict=True) if d]
        assert len(needed) == 10559
        store.check(needed)
