"""View features of every viewpoint: one array [views, features] a viewpoint, plus view angles.

The file layout is that of HAMT and DUET: HDF5, one dataset per key ``{scan}_{viewpoint}``, shape
(36, F) or (36, F + 1000) where the last 1000 columns are ImageNet logits. View i of the 36 looks to
heading 30 deg * (i mod 12), elevation 30 deg * (i // 12 - 1). A file with another number of views V
states its angles in the root attributes ``view_headings`` and ``view_elevations`` (radians, [V]).
Text observations, rendered houses and camera features all use this one layout.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from sterna.data.viewfile import (
    HDF5_ERRORS,
    LOGITS,
    Floats,
    camera_angles,
    open_hdf5,
    read_form,
    unreadable,
    write_views,
)
from sterna.errors import InputError

__all__ = ["BlindViews", "InMemoryViews", "ViewStore", "camera_angles", "write_views"]

_SAMPLED_KEYS = 8


class ViewStore:
    """View features of many viewpoints behind one interface, whatever holds the arrays.

    `n_views` (V), `size` (F), `headings` and `elevations` (radians, float64 [V]), `keys`,
    `has_logits`. `views` returns one viewpoint, `table` a contiguous array for many of them.
    A store is a context manager; one made by `open` holds a read-only file until closed.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        headings: ArrayLike,
        elevations: ArrayLike,
        size: int,
        *,
        width: int | None = None,
        dtype: type[np.floating[Any]] = np.float32,
        name: str = "views in memory",
    ) -> None:
        """Wrap a mapping of ``scan_viewpoint`` to arrays [V, width]; most callers want `open`."""
        self.headings = np.asarray(headings, dtype=np.float64)
        self.elevations = np.asarray(elevations, dtype=np.float64)
        self.size, self.width = size, size if width is None else width
        self.dtype = np.dtype(dtype)
        self.name = name
        self._arrays = arrays
        self._keys: tuple[str, ...] | None = None
        if self.headings.ndim != 1 or self.headings.shape != self.elevations.shape:
            raise InputError(
                f"{name}: expected view headings and elevations of one length, found shapes "
                f"{self.headings.shape} and {self.elevations.shape}"
            )
        if self.dtype not in (np.float16, np.float32):
            raise InputError(f"{name}: dtype must be float16 or float32, found {self.dtype}")

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        *,
        feature_size: int | None = None,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> ViewStore:
        """Open an HDF5 feature file read-only and check a sample of its keys.

        `feature_size` states F where the width of the file is neither a usual one (512, 768, 1024,
        each with or without 1000 logits) nor given by the root attribute ``feature_size``.
        Raises `InputError` for a file that is missing, no HDF5, empty, of another size, or NaN.
        """
        file = open_hdf5(Path(path))
        try:
            form = read_form(file, feature_size)
            store = ViewStore(
                file,
                form.headings,
                form.elevations,
                form.size,
                width=form.width,
                dtype=dtype,
                name=str(path),
            )
            step = max(1, len(store.keys) // _SAMPLED_KEYS)
            store.check(store.keys[::step][:_SAMPLED_KEYS], progress=False)
        except BaseException:
            file.close()
            raise
        return store

    @property
    def n_views(self) -> int:
        """Number of views V of each viewpoint."""
        return len(self.headings)

    @property
    def has_logits(self) -> bool:
        """Whether the 1000 ImageNet logits are stored behind the features."""
        return self.width == self.size + LOGITS

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys ``scan_viewpoint`` of the store."""
        if self._keys is None:
            try:
                self._keys = tuple(self._arrays)
                "".join(self._keys).encode()  # a damaged file may hold names that are no text
            except HDF5_ERRORS as error:
                raise unreadable(self.name, error) from error
        return self._keys

    @property
    def attrs(self) -> dict[str, Any]:
        """Root attributes of the file (empty for a store in memory)."""
        return dict(getattr(self._arrays, "attrs", {}))

    def views(self, scan: str, viewpoint: str) -> NDArray[np.float32]:
        """Features of one viewpoint, float32 [V, F]; `InputError` if absent or not finite."""
        return self._read(f"{scan}_{viewpoint}")[:, : self.size].astype(np.float32)

    def logits(self, scan: str, viewpoint: str) -> NDArray[np.float32]:
        """ImageNet logits of one viewpoint, float32 [V, 1000] (targets of masked regions)."""
        self._need_logits()
        return self._read(f"{scan}_{viewpoint}")[:, self.size :].astype(np.float32)

    def table(self, keys: Sequence[str], *, logits: bool = False, progress: bool = True) -> Floats:
        """Read many viewpoints into one contiguous array [len(keys), V, F] to gather from.

        `logits=True` reads the 1000 logits instead. The array has the store's `dtype`; a value too
        large for it, a NaN or a missing key is an `InputError`. Slow reads show a progress bar.
        """
        if logits:
            self._need_logits()
        part = slice(self.size, None) if logits else slice(0, self.size)
        out = np.empty((len(keys), self.n_views, LOGITS if logits else self.size), self.dtype)
        top = float(np.finfo(self.dtype).max)
        for row, key in enumerate(_bar(keys, "reading views", progress)):
            values = self._read(key)[:, part]
            if np.abs(values, dtype=np.float32).max(initial=0.0) > top:
                raise InputError(
                    f"{self.name}: {key}: a value exceeds {top:g}, the largest {self.dtype}; "
                    "open the store with dtype=float32"
                )
            out[row] = values
        return out

    def check(self, keys: Iterable[str] | None = None, *, progress: bool = True) -> None:
        """Read `keys` (default: all) in full; `InputError` names file, key, expected, found."""
        wanted = self.keys if keys is None else tuple(keys)
        present = set(self.keys)
        missing = [key for key in wanted if key not in present]
        if missing:
            raise InputError(
                f"{self.name}: {len(missing)} of {len(wanted)} viewpoints are missing, first "
                f"{missing[0]}; extract features for all viewpoints of the graphs"
            )
        for key in _bar(wanted, "checking views", progress):
            self._read(key)

    def blind(self) -> BlindViews:
        """Return the same store with every feature zero: the control that sees nothing."""
        return BlindViews(self)

    def close(self) -> None:
        """Close the file behind the store, if there is one."""
        if isinstance(self._arrays, h5py.File):
            self._arrays.close()

    def __enter__(self) -> Self:
        """Enter a ``with`` block that closes the store at its end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def _need_logits(self) -> None:
        if not self.has_logits:
            raise InputError(
                f"{self.name}: expected {self.size} + {LOGITS} columns for logits, "
                f"found {self.width}; use a feature file that stores ImageNet logits"
            )

    def _read(self, key: str) -> Floats:
        """Return the whole checked array [V, width] of one key."""
        expected = (self.n_views, self.width)
        try:
            item = self._arrays[key]
            shape, dtype = item.shape, item.dtype
            # The shape is checked before reading: a damaged one may ask for terabytes.
            values = np.asarray(item[()]) if shape == expected and dtype.kind == "f" else None
        except KeyError:
            raise InputError(
                f"{self.name}: viewpoint {key} is missing (the store has {len(self.keys)}); "
                "use features that cover every viewpoint of the graphs"
            ) from None
        except HDF5_ERRORS as error:
            raise unreadable(f"{self.name}: {key}", error) from error
        if values is None:
            raise InputError(
                f"{self.name}: {key}: expected floats of shape {expected}, found {dtype} {shape}"
            )
        if not np.isfinite(values).all():
            view = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise InputError(f"{self.name}: {key}: NaN or infinity in view {view}; extract it anew")
        return values


class InMemoryViews(ViewStore):
    """The same interface over a dictionary of arrays [V, F]: for tests and small houses."""

    def __init__(
        self,
        arrays: Mapping[str, ArrayLike],
        headings: ArrayLike | None = None,
        elevations: ArrayLike | None = None,
        *,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> None:
        """Keep `arrays`; angles default to the 36 camera views. Every array is checked at once."""
        if not arrays:
            raise InputError("views in memory: expected at least one viewpoint, found none")
        kept = {key: np.asarray(values, dtype=np.float32) for key, values in arrays.items()}
        first = next(iter(kept.values()))
        default = camera_angles()
        super().__init__(
            kept,
            default[0] if headings is None else headings,
            default[1] if elevations is None else elevations,
            first.shape[-1] if first.ndim else 0,
            dtype=dtype,
        )
        self.check(progress=False)


class BlindViews(ViewStore):
    """Zeros of the shape of another store, for the blind control."""

    def __init__(self, store: ViewStore) -> None:
        """Take keys, angles, size and dtype of `store`."""
        kind = store.dtype.type
        super().__init__(
            store._arrays,
            store.headings,
            store.elevations,
            store.size,
            dtype=kind,
            name=f"blind copy of {store.name}",
        )

    def table(self, keys: Sequence[str], *, logits: bool = False, progress: bool = True) -> Floats:
        """Zeros [len(keys), V, F]; unknown keys are an `InputError` as in the sighted store."""
        present = set(self.keys)
        missing = [key for key in keys if key not in present]
        if missing:
            raise InputError(f"{self.name}: viewpoint {missing[0]} is missing")
        if logits:
            self._need_logits()
        return np.zeros((len(keys), self.n_views, self.size), self.dtype)

    def close(self) -> None:
        """Leave the file to the sighted store, which owns it."""

    def _read(self, key: str) -> Floats:
        if key not in self._arrays:
            raise InputError(f"{self.name}: viewpoint {key} is missing")
        return np.zeros((self.n_views, self.size), np.float32)


def _bar(keys: Sequence[str], what: str, progress: bool) -> Iterable[str]:
    """Progress on standard error, shown only when it takes longer than a second."""
    bar: Iterable[str] = tqdm(
        keys, desc=what, unit="viewpoint", delay=1.0, leave=False, disable=not progress
    )
    return bar
