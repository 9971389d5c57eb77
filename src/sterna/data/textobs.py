"""Text observations of viewpoints (NavGPT): eight captions and eight object lists each.

``observations_list_summarized/<scan>.json`` maps viewpoint -> 8 captions; ``objects_list/<scan>``
maps viewpoint -> 8 dictionaries ``{object: {heading (deg), distance (m)}}``. Caption i looks to the
absolute heading 45*i degrees (0 = +y, clockwise), level. `embed_observations` turns them once into
a view store (`sterna.data.views`) with V = 8, so a policy sees captions the way it sees images.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from sterna.data.layout import Layout
from sterna.data.views import write_views
from sterna.errors import InputError
from sterna.files import find_file, read_json, sha256, write_bytes

VIEWS = 8
CAPTIONS = "observations_list_summarized"
OBJECTS = "objects_list"


class Encoder(Protocol):
    """What embeds sentences: rows of float32 [n, D], a name and a digest of its weights."""

    @property
    def name(self) -> str:
        """Human name, stored in the file."""
        ...

    @property
    def digest(self) -> str:
        """Hash of the weights, stored in the file; another digest never reuses cached parts."""
        ...

    def encode(self, sentences: list[str], /) -> NDArray[np.float32]:
        """Embed sentences to [n, D]."""
        ...


@dataclass(frozen=True, kw_only=True)
class TextObservations:
    """One scan: `captions[i]` has 8 texts, `objects[i]` 8 tuples of names, of `viewpoints[i]`."""

    scan: str
    viewpoints: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    objects: tuple[tuple[tuple[str, ...], ...], ...]


def caption_angles() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Headings 45*i degrees and level elevations of the 8 captions, radians, float64 [8]."""
    return np.deg2rad(45.0 * np.arange(VIEWS)), np.zeros(VIEWS)


def read_observations(
    root: str | os.PathLike[str], scan: str, *, objects: bool = True
) -> TextObservations:
    """Read one scan's captions and (if `objects`) object names; `root` as in `Layout`.

    Raises `InputError` for a missing file, a viewpoint without exactly 8 captions, or object lists
    that do not cover the captioned viewpoints.
    """
    folder = _folder(root)
    source = folder / CAPTIONS / f"{scan}.json"
    captions = _per_viewpoint(source)
    for viewpoint, texts in captions.items():
        if not all(isinstance(text, str) for text in texts):
            raise InputError(
                f"{source}: {viewpoint[:60]!r}: expected {VIEWS} captions, each a string"
            )
    names = _object_names(folder / OBJECTS / f"{scan}.json", captions) if objects else {}
    none = ((),) * VIEWS
    return TextObservations(
        scan=scan,
        viewpoints=tuple(captions),
        captions=tuple(tuple(texts) for texts in captions.values()),
        objects=tuple(names.get(viewpoint, none) for viewpoint in captions),
    )


def observed_scans(root: str | os.PathLike[str]) -> list[str]:
    """Scans that have a caption file, sorted."""
    files = (_folder(root) / CAPTIONS).glob("*.json*")
    return sorted({file.name.removesuffix(".gz").removesuffix(".json") for file in files})


def embed_observations(
    root: str | os.PathLike[str],
    encoder: Encoder,
    out_hdf5: str | os.PathLike[str],
    *,
    scans: Sequence[str] | None = None,
    objects: bool = True,
    progress: bool = True,
) -> Path:
    """Embed captions (and object names) of `scans` (default all) into a view store with V = 8.

    F = D, or 2D with `objects`: [caption | mean of the view's object-name embeddings, zeros where
    there are none], float16. Each scan is kept in ``<out>.parts/`` when done, so that the same call
    continues a killed run; the result appears under its name only when complete.
    """
    out = Path(out_hdf5)
    wanted = list(dict.fromkeys(scans if scans is not None else observed_scans(root)))
    if not wanted:
        raise InputError(f"{root}: no text observations to embed")
    vocabulary = _ObjectVectors(encoder)
    finished: list[tuple[TextObservations, Path]] = []
    for scan in tqdm(wanted, desc="embedding", unit="scan", disable=not progress):
        seen = read_observations(root, scan, objects=objects)
        part = out.with_name(f"{out.name}.parts") / _part_name(root, scan, encoder, objects)
        if not part.is_file():
            _save(part, _embed(seen, encoder, vocabulary if objects else None))
        finished.append((seen, part))
    width = _load(*finished[0]).shape[-1]
    write_views(out, _rows(finished), *caption_angles(), _attributes(encoder, objects, width))
    for _, part in finished:
        part.unlink()
    if not any(finished[0][1].parent.iterdir()):
        finished[0][1].parent.rmdir()
    return out


def object_name(raw: str) -> str:
    """Plain name of a detected object: ``"light_2"`` and ``"light "`` are both ``"light"``."""
    return re.sub(r"_\d+$", "", raw.strip()).strip()


class _ObjectVectors:
    """Embeddings of object names, each encoded once for all scans."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._rows: dict[str, int] = {}
        self._table = np.zeros((0, 0), np.float32)

    def means(self, views: Sequence[Sequence[str]], width: int) -> NDArray[np.float32]:
        """Mean name embedding of each view, float32 [len(views), width]; zeros for no object."""
        new = list(dict.fromkeys(n for names in views for n in names if n not in self._rows))
        if new:
            vectors = _encode(self._encoder, new)
            self._rows |= {name: len(self._rows) + i for i, name in enumerate(new)}
            self._table = np.concatenate([self._table.reshape(-1, vectors.shape[1]), vectors])
        counts = np.array([len(names) for names in views])
        columns = np.array([self._rows[n] for names in views for n in names], dtype=np.int64)
        if not len(columns):
            return np.zeros((len(views), width), np.float32)
        weights = np.repeat(1.0 / np.maximum(counts, 1), counts).astype(np.float32)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        shape = (len(views), len(self._table))
        means = sparse.csr_matrix((weights, columns, indptr), shape=shape) @ self._table
        return np.asarray(means, dtype=np.float32)


def _embed(
    seen: TextObservations, encoder: Encoder, vocabulary: _ObjectVectors | None
) -> NDArray[np.float16]:
    """Features of one scan, float16 [viewpoints, 8, F]; equal captions are encoded once."""
    flat = [text for texts in seen.captions for text in texts]
    distinct = {text: i for i, text in enumerate(dict.fromkeys(flat))}
    vectors = _encode(encoder, list(distinct))[[distinct[text] for text in flat]]
    if vocabulary is not None:
        views = [names for eight in seen.objects for names in eight]
        vectors = np.concatenate([vectors, vocabulary.means(views, vectors.shape[1])], axis=1)
    return vectors.reshape(len(seen.viewpoints), VIEWS, -1).astype(np.float16)


def _encode(encoder: Encoder, texts: list[str]) -> NDArray[np.float32]:
    vectors = np.asarray(encoder.encode(texts), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise InputError(
            f"encoder {encoder.name}: expected finite vectors [{len(texts)}, D], "
            f"found shape {vectors.shape}; check the encoder's files"
        )
    return vectors


def _part_name(root: str | os.PathLike[str], scan: str, encoder: Encoder, objects: bool) -> str:
    """Name of a finished scan; changes with the encoder, the parts wanted and the source files."""
    folder = _folder(root)
    sources = [CAPTIONS, OBJECTS] if objects else [CAPTIONS]
    digests = [sha256(find_file(folder / source / f"{scan}.json")) for source in sources]
    key = "\n".join([encoder.digest, *digests])
    return f"{scan}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"


def _save(path: Path, values: NDArray[np.float16]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def _load(seen: TextObservations, part: Path) -> NDArray[np.float16]:
    values = np.load(part, allow_pickle=False)
    if values.ndim != 3 or values.shape[:2] != (len(seen.viewpoints), VIEWS):
        expected = (len(seen.viewpoints), VIEWS)
        raise InputError(f"{part}: expected shape {expected}, found {values.shape}; delete it")
    result: NDArray[np.float16] = values
    return result


def _rows(
    finished: Sequence[tuple[TextObservations, Path]],
) -> Iterator[tuple[str, NDArray[np.float16]]]:
    for seen, part in finished:
        for viewpoint, values in zip(seen.viewpoints, _load(seen, part), strict=True):
            yield f"{seen.scan}_{viewpoint}", values


def _attributes(encoder: Encoder, objects: bool, width: int) -> dict[str, str]:
    names = ["captions", "object_names"] if objects else ["captions"]
    step = width // len(names)
    parts = {name: [i * step, (i + 1) * step] for i, name in enumerate(names)}
    return {
        "encoder": encoder.name,
        "encoder_sha256": encoder.digest,
        "source": f"text observations: {CAPTIONS}" + (f", {OBJECTS}" if objects else ""),
        "feature_parts": json.dumps(parts),
    }


def _folder(root: str | os.PathLike[str]) -> Path:
    path = Path(root)
    return path if (path / CAPTIONS).is_dir() else Layout(path).textobs


def _per_viewpoint(source: Path) -> dict[str, list[Any]]:
    value = read_json(source)
    if not isinstance(value, dict) or not value:
        kind = type(value).__name__
        raise InputError(f"{source}: expected an object of viewpoints, found {kind}")
    for viewpoint, views in value.items():
        if not isinstance(views, list) or len(views) != VIEWS:
            found = len(views) if isinstance(views, list) else type(views).__name__
            raise InputError(f"{source}: {viewpoint[:60]!r}: expected {VIEWS} views, found {found}")
    return value


def _object_names(
    source: Path, captions: dict[str, list[Any]]
) -> dict[str, tuple[tuple[str, ...], ...]]:
    lists = _per_viewpoint(source)
    missing = [viewpoint for viewpoint in captions if viewpoint not in lists]
    if missing:
        raise InputError(
            f"{source}: viewpoint {missing[0][:60]!r} has captions but no object lists"
        )
    for viewpoint, views in lists.items():
        if not all(isinstance(view, dict) for view in views):
            raise InputError(
                f"{source}: {viewpoint[:60]!r}: expected {VIEWS} objects of name: position"
            )
    return {
        viewpoint: tuple(tuple(n for n in map(object_name, view) if n) for view in views)
        for viewpoint, views in lists.items()
    }
