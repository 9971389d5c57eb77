"""Where things are in a data folder, whoever packed it.

Understood: this library's own layout (``r2r/R2R_train.json.gz``, ``mp3d/connectivity``,
``textobs``, ``fgr2r``, ``r4r``, ``reverie/v1``, ``features``), the DUET release
(``R2R/annotations/R2R_train_enc.json``, ``R2R/connectivity``, ``R2R/features``, the same under
``REVERIE``; also inside a ``datasets`` folder), and flat folders that hold the files themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sterna.errors import InputError

_FOLDERS = {
    "r2r": ("r2r", "R2R/annotations", "tasks/R2R/data", "R2R", ""),
    "r4r": ("r4r", "R4R/annotations", "R4R", "R2R/annotations", "r2r", ""),
    "fgr2r": ("fgr2r", "FGR2R", "R2R/annotations", "Fine-Grained-R2R/data", ""),
    "reverie": ("reverie/v1", "reverie", "REVERIE/annotations", "REVERIE", ""),
    "reverie-v2": ("reverie/v2", "REVERIE/v2", "REVERIE_v2"),
    "rxr": ("rxr", "RxR", "RxR/annotations", "RXR/annotations", ""),
    "soon": ("soon", "SOON", "SOON/annotations", "SOON/annotations/bert_enc", "tasks/SOON"),
    "ndh": ("ndh", "NDH", "CVDN/NDH", "tasks/NDH/data"),
}
_STEMS = {"r2r": "R2R", "r4r": "R4R", "fgr2r": "FGR2R"}
_TAILS = {
    "rxr": ("_guide.jsonl", "_guide_enc_xlmr.jsonl"),
    "soon": (".json", "_enc_pseudo_obj_ade30k_label.jsonl", "_enc.jsonl"),
    "ndh": (".json", "_cleaned.json"),
}
_CONNECTIVITY = ("mp3d/connectivity", "connectivity", "R2R/connectivity", "")
_BOXES = ("reverie/v1", "reverie", "REVERIE/annotations", "REVERIE", "")
_BOX_FILES = ("BBox.tar.gz", "BBoxes.json", "BBoxes.json.gz", "BBox", "bbox")
_FEATURES = ("features", "features/*", "R2R/features", "REVERIE/features", "img_features", "")


class MissingDataError(InputError):
    """A data folder lacks a file that was asked for (the file is absent, not faulty)."""


class Layout:
    """Answers where connectivity, annotations, text observations and features are under `root`.

    Each answer is a path that exists; what is missing is a `MissingDataError` that lists what was
    looked for. `root` may be the data folder or one that holds it as ``datasets``.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Take the data folder; `InputError` if there is none."""
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such data folder; check --data or STERNA_DATA")
        inner = self.root / "datasets"
        self._roots = (self.root, inner) if inner.is_dir() else (self.root,)

    @property
    def connectivity(self) -> Path:
        """Folder that holds ``<scan>_connectivity.json[.gz]``."""
        folders = self._under(_CONNECTIVITY)
        for folder in folders:
            if next(folder.glob("*_connectivity.json*"), None) is not None:
                return folder
        raise self._missing("<scan>_connectivity.json[.gz]", _CONNECTIVITY)

    @property
    def scans(self) -> list[str]:
        """Names of the scans that have a connectivity file, sorted."""
        files = self.connectivity.glob("*_connectivity.json*")
        return sorted({file.name.split("_connectivity.json")[0] for file in files})

    @property
    def textobs(self) -> Path:
        """Folder of text observations (it holds ``observations_list_summarized``)."""
        places = ("textobs", "text_observations", "NavGPT", "R2R", "")
        for folder in self._under(places):
            if (folder / "observations_list_summarized").is_dir():
                return folder
        raise self._missing("observations_list_summarized/<scan>.json[.gz]", places)

    def annotations(self, task: str, split: str) -> Path:
        """Annotation file of a task and split; of RxR that of the guides.

        Tasks: r2r, r4r, fgr2r, reverie, reverie-v2, rxr, soon, ndh.
        """
        if task not in _FOLDERS:
            raise InputError(f"unknown task {task!r}; expected one of {', '.join(_FOLDERS)}")
        if task == "rxr":
            return self.rxr(split)
        stem = split if task in _TAILS else f"{_STEMS.get(task, 'REVERIE')}_{split}"
        return self._annotations(task, stem, _TAILS.get(task, (".json", "_enc.json")))

    def _annotations(self, task: str, stem: str, tails: Iterable[str]) -> Path:
        names = [f"{stem}{tail}{zipped}" for tail in tails for zipped in ("", ".gz")]
        for folder in self._under(_FOLDERS[task]):
            for name in names:
                if (folder / name).is_file():
                    return folder / name
        raise self._missing(" or ".join(f"{stem}{tail}[.gz]" for tail in tails), _FOLDERS[task])

    @property
    def boxes(self) -> Path:
        """Objects of REVERIE: the archive, a folder of its files, or DUET's ``BBoxes.json``."""
        for folder in self._under(_BOXES):
            for name in _BOX_FILES:
                found = folder / name
                if found.is_file() or (found.is_dir() and any(found.glob("*.json"))):
                    return found
        raise self._missing(" or ".join(_BOX_FILES[:2]), _BOXES)

    def features(self, name: str) -> Path:
        """Feature file by name, with or without ``.hdf5``."""
        for folder in self._under(_FEATURES):
            for candidate in (folder / name, folder / f"{name}.hdf5", folder / f"{name}.h5"):
                if candidate.is_file():
                    return candidate
        raise self._missing(f"{name}[.hdf5]", _FEATURES)

    def feature_files(self) -> list[Path]:
        """All HDF5 files in the folders where features are looked for, sorted by path."""
        folders = self._under(_FEATURES)
        found = {f for folder in folders for tail in ("*.hdf5", "*.h5") for f in folder.glob(tail)}
        return sorted(found)

    def vlnce(self, split: str, release: str | None = None) -> Path:
        """Episode file of R2R in continuous environments (VLN-CE).

        `release` is such as "v1-2"; None takes the newest found.
        """
        places = ("vlnce", "data/datasets", "")
        wanted = f"R2R_VLNCE_{release or 'v*'}"
        for folder in self._under(places):
            for tail in ("_preprocessed", ""):
                found = sorted(folder.glob(f"{wanted}{tail}/{split}/{split}.json*"))
                if found:
                    return found[-1]
        raise self._missing(f"{wanted}/{split}/{split}.json.gz", places)

    def vlnce_trajectories(self, split: str, release: str | None = None) -> Path:
        """Reference trajectories (``_gt``) beside the episode file of `vlnce`."""
        return self._beside(self.vlnce(split, release))

    def rxrce(self, split: str, role: str = "guide") -> Path:
        """Episode file of RxR in continuous environments (RxR-CE), by role: guide, follower."""
        places = ("vlnce", "data/datasets", "")
        for folder in self._under(places):
            found = sorted(folder.glob(f"RxR_VLNCE_v*/{split}/{split}_{role}.json*"))
            if found:
                return found[-1]
        raise self._missing(f"RxR_VLNCE_*/{split}/{split}_{role}.json.gz", places)

    def rxrce_trajectories(self, split: str, role: str = "guide") -> Path:
        """Reference trajectories (``_gt``) beside the episode file of `rxrce`."""
        return self._beside(self.rxrce(split, role))

    def _beside(self, episodes: Path) -> Path:
        stem = episodes.name.split(".json")[0]
        found = sorted(episodes.parent.glob(f"{stem}_gt.json*"))
        if not found:
            raise self._missing(f"{stem}_gt.json[.gz]", [str(episodes.parent)])
        return found[0]

    def rxr(self, split: str, role: str = "guide") -> Path:
        """Annotation file of Room-Across-Room, by role: guide, follower.

        Test splits are test_standard and test_challenge, whose files say ``_public`` too.
        """
        tails = [tail.replace("guide", role) for tail in _TAILS["rxr"]]
        tails += [f"_public{tail}" for tail in tails]
        return self._annotations("rxr", f"rxr_{split}", tails)

    def _under(self, places: Iterable[str]) -> list[Path]:
        folders = []
        for root in self._roots:
            for place in places:
                folders += sorted(root.glob(place)) if "*" in place else [root / place]
        return [folder for folder in folders if folder.is_dir()]

    def _missing(self, what: str, places: Iterable[str]) -> MissingDataError:
        tried = ", ".join(place or "." for place in places)
        hint = "'sterna data get' fetches it or says where it is"
        return MissingDataError(f"{self.root}: found no {what} (looked in {tried}); {hint}")
