"""Egocentric walks as a LeRobotDataset, format v3.0: Parquet tables with the JPEG files inside.

Written from the format's description and its public reader's expectations: `meta/info.json`,
`meta/stats.json`, `meta/tasks.parquet`, `meta/episodes/chunk-000/file-000.parquet`, and data files
of about 100 MB under `data/`. An instruction is a task; instructions of one walk are episodes of
their own, so their frames are written once each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.data.ego.store import EgoEpisode, EgoStore
from sterna.errors import InputError
from sterna.files import write_json

VERSION, CHUNK, FILE_MB, VIDEO_MB = "v3.0", 1000, 100, 500
FPS = 4  # a step has no duration; VLN-CE's videos show so many a second
PATH = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA = f"data/{PATH}.parquet"
EPISODES = f"meta/episodes/{PATH}.parquet"
IMAGE = "observation.images.front"
PICTURES = 100  # looked at for an episode's colour statistics, at most

Columns = dict[str, NDArray[Any]]
Stats = dict[str, dict[str, NDArray[np.float64]]]


def arrow() -> Any:
    """Return pyarrow; `InputError` names the extra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise InputError(
            "writing Parquet needs pyarrow; pip install 'sterna[lerobot]' (or export sharegpt)"
        ) from error
    return pyarrow


def features(store: EgoStore) -> dict[str, Any]:
    """Return the columns, as `meta/info.json` lists them."""
    camera = store.camera

    def column(dtype: str, shape: Sequence[int], names: Sequence[str] | None = None) -> Any:
        return {"dtype": dtype, "shape": list(shape), "names": names and list(names)}

    size = (camera.height, camera.width, 3)
    return {
        IMAGE: column("image", size, ("height", "width", "channels")),
        "observation.state": column("float32", (4,), ("x", "y", "z", "heading")),
        "observation.collided": column("bool", (1,)),
        "action": column("int64", (1,)),
        "action.expert": column("int64", (store.n_max,)),
        **{name: column("float32" if name == "timestamp" else "int64", (1,)) for name in INDICES},
    }


INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that every data set of the format has."""


def write_lerobot(store: EgoStore, out: Path) -> dict[str, int]:
    """Write a store as a data set; return counts. `InputError` if pyarrow is not installed.

    Actions are 0 stop, 1 forward, 2 left, 3 right; `action` was taken, `action.expert` are the
    expert's next ones. A step counts a quarter of a second.
    """
    pa = arrow()
    tasks = {text: i for i, text in enumerate(dict.fromkeys(e.instruction for e in store.episodes))}
    writer, rows, every, first = _Writer(pa, store, out), [], list[Stats](), 0
    for number, episode in enumerate(store.episodes):
        columns = _columns(episode, number, first, tasks[episode.instruction])
        place = writer.write(columns, range(episode.first, episode.first + len(episode)))
        every.append(_stats(columns, store, episode))
        rows.append(_row(number, episode, first, place, every[-1]))
        first += len(episode)
    writer.close()
    _write_tables(pa, out, rows, tasks)
    write_json(out / "meta/stats.json", _plain(_joined(every)), indent=4)
    write_json(out / "meta/info.json", _info(store, first, len(tasks)), indent=4)
    return {"episodes": len(rows), "frames": first, "tasks": len(tasks), "files": writer.files}


def _columns(episode: EgoEpisode, number: int, first: int, task: int) -> Columns:
    count = np.arange(len(episode))
    return {
        "observation.state": episode.poses.astype(np.float32),
        "observation.collided": episode.collided,
        "action": episode.taken,
        "action.expert": episode.expert,
        "timestamp": (count / FPS).astype(np.float32),
        "frame_index": count,
        "episode_index": np.full(len(count), number),
        "index": first + count,
        "task_index": np.full(len(count), task),
    }


class _Writer:
    """Writes data files one after another, each until it is full."""

    def __init__(self, pa: Any, store: EgoStore, out: Path) -> None:
        self.pa, self.store, self.out, self.files = pa, store, out, 0
        self.schema = _schema(pa, features(store))
        self._file: Any = None
        self._size = 0

    def write(self, columns: Columns, frames: range) -> dict[str, int]:
        """Write the rows of an episode; return where they are."""
        pictures = [self.store.jpeg(number) for number in frames]
        size = sum(map(len, pictures))
        if self._file is None or self._size + size > FILE_MB * 2**20:
            self._open()
        self._size += size
        table = {IMAGE: [{"bytes": file, "path": None} for file in pictures]}
        values = {name: array.tolist() for name, array in columns.items()}
        self._file.write_table(self.pa.Table.from_pydict({**table, **values}, schema=self.schema))
        chunk, file = divmod(self.files - 1, CHUNK)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _open(self) -> None:
        self.close()
        chunk, file = divmod(self.files, CHUNK)
        path = self.out / DATA.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.pa.parquet.ParquetWriter(path, self.schema)
        self.files, self._size = self.files + 1, 0

    def close(self) -> None:
        """Finish the file at hand."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _schema(pa: Any, columns: dict[str, Any]) -> Any:
    """Return the Arrow schema; its metadata tells `datasets` which column holds pictures."""
    kinds = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}
    fields, told = list[Any](), dict[str, Any]()
    for name, column in columns.items():
        kind, shape = column["dtype"], column["shape"]
        if kind == "image":
            fields.append((name, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
            told[name] = {"_type": "Image"}
            continue
        value: dict[str, Any] = {"dtype": kind, "_type": "Value"}
        single = shape == [1]
        fields.append((name, kinds[kind] if single else pa.list_(kinds[kind], shape[0])))
        told[name] = value if single else {"feature": value, "length": shape[0], "_type": "List"}
    meta = {"huggingface": json.dumps({"info": {"features": told}})}
    return pa.schema(fields).with_metadata(meta)


def _stats(columns: Columns, store: EgoStore, episode: EgoEpisode) -> Stats:
    """Return min, max, mean, std and count of every column; of pictures by channel, 0 to 1."""
    out = {
        name: _summary(array.reshape(len(array), -1).astype(np.float64))
        for name, array in columns.items()
    }
    chosen = np.unique(np.linspace(0, len(episode) - 1, min(PICTURES, len(episode))).astype(int))
    pixels = store.frames(episode.first + chosen).reshape(-1, 3) / 255.0
    seen = _summary(pixels)
    out[IMAGE] = {
        name: np.array([len(chosen)]) if name == "count" else value.reshape(3, 1, 1)
        for name, value in seen.items()
    }
    return out


def _summary(values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
    }


def _joined(every: Sequence[Stats]) -> Stats:
    """Return the statistics of all episodes together (weights: counts)."""
    out: Stats = {}
    for name in every[0] if every else ():
        parts = {key: np.stack([stats[name][key] for stats in every]) for key in every[0][name]}
        count = parts["count"].reshape(-1, *[1] * (parts["mean"].ndim - 1))
        total = count.sum()
        mean = (parts["mean"] * count).sum(0) / total
        spread = np.square(parts["std"]) + np.square(parts["mean"] - mean)
        out[name] = {
            "min": parts["min"].min(0),
            "max": parts["max"].max(0),
            "mean": mean,
            "std": np.sqrt((spread * count).sum(0) / total),
            "count": np.array([total]),
        }
    return out


def _plain(stats: Stats) -> dict[str, Any]:
    return {name: {k: v.tolist() for k, v in parts.items()} for name, parts in stats.items()}


def _row(
    number: int, episode: EgoEpisode, first: int, place: dict[str, int], stats: Stats
) -> dict[str, Any]:
    told = {f"stats/{n}/{k}": v.tolist() for n, parts in stats.items() for k, v in parts.items()}
    return {
        "episode_index": number,
        "tasks": [episode.instruction],
        "length": len(episode),
        "instr_id": episode.instr_id,
        "scan": episode.scan,
        **place,
        "dataset_from_index": first,
        "dataset_to_index": first + len(episode),
        **told,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }


def _write_tables(pa: Any, out: Path, rows: Sequence[Any], tasks: dict[str, int]) -> None:
    target = out / EPISODES.format(chunk_index=0, file_index=0)
    target.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(list(rows)), target)
    table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
    table = table.replace_schema_metadata({"pandas": json.dumps(_indexed())})
    pa.parquet.write_table(table, out / "meta/tasks.parquet")


def _indexed() -> dict[str, Any]:
    """Tell pandas that the column `task` is the index, as the format's reader expects."""

    def column(name: str, kind: str, dtype: str) -> dict[str, Any]:
        same = {"name": name, "field_name": name}
        return {**same, "pandas_type": kind, "numpy_type": dtype, "metadata": None}

    return {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "pandas_version": "2.2.0",
    }


def _info(store: EgoStore, frames: int, tasks: int) -> dict[str, Any]:
    count = len(store.episodes)
    return {
        "codebase_version": VERSION,
        "robot_type": None,
        "total_episodes": count,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": FILE_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": FPS,
        "splits": {"train": f"0:{count}"},
        "data_path": DATA,
        "video_path": None,
        "features": features(store),
    }


def rows_of(out: Path) -> Iterator[dict[str, Any]]:
    """Read the rows of a written data set back, in order."""
    pa = arrow()
    for file in sorted((out / "data").glob("*/*.parquet")):
        yield from pa.parquet.read_table(file).to_pylist()
