"""An exported folder: what it must hold, and the proof that it holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sterna.errors import InputError
from sterna.files import read_json, sha256

FORMAT = 1
MANIFEST = "manifest.json"
PARTS = ("text", "panorama", "step")
ENGINES = ("onnx", "onnx-int8")
"""float32, and weights of 8 bits (one scale a column) with activations quantised as they come."""
ROUTED_ENGINES = ("onnx-static", "onnx-static-int8")
"""The same of routed policies as static graphs: always the same layers, no `If`."""
DUET, ACTOR, NAVIGATOR = "DUET", "actor", "navigator"
"""Kinds of exported policies: on graphs; from observations to actions; answering in words."""
_OPENED_BY = {
    DUET: "Navigator(Engine.open(...))",
    ACTOR: "Actor.open(...)",
    NAVIGATOR: "Answerer.open(...)",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """What an exported folder says about itself.

    `sizes` are the model's (`DuetConfig`), `graphs` the file of each part by engine, `files` the
    SHA-256 of every file, `headings` and `elevations` (radians, [V]) the directions of the views
    that the policy learnt from, `max_words` the word pieces an instruction is cut to, `max_steps`
    the decisions of an episode; `about` is the rest: source, run, protocol. `routes` says which
    units a routed policy may skip, and its thresholds (see `edge.routed_folder`); None: all run.
    """

    folder: Path
    sizes: Mapping[str, Any]
    graphs: Mapping[str, Mapping[str, str]]
    files: Mapping[str, str]
    tokenizer: str
    headings: tuple[float, ...]
    elevations: tuple[float, ...]
    max_words: int
    max_steps: int
    about: Mapping[str, Any]
    routes: Mapping[str, Any] | None = None

    def graph(self, engine: str, part: str) -> Path:
        """Return the file of one part; `InputError` for an engine that was not exported."""
        if engine not in self.graphs:
            raise InputError(
                f"{self.folder}: holds no engine {engine!r}, it has {', '.join(self.graphs)}; "
                "export with --int8 for onnx-int8"
            )
        return self.folder / self.graphs[engine][part]


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's content, its own field ``digest`` left out."""
    rest = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: str | Path) -> Manifest:
    """Read and prove an exported folder.

    `InputError` unless the manifest is whole and the SHA-256 of every file is the one it names.
    """
    root = Path(folder)
    content = proven(root, DUET)
    return Manifest(
        folder=root,
        sizes=content["sizes"],
        graphs=content["graphs"],
        files=content["files"],
        tokenizer=content["tokenizer"],
        headings=tuple(content["views"]["headings"]),
        elevations=tuple(content["views"]["elevations"]),
        max_words=content["max_words"],
        max_steps=content["max_steps"],
        about=content["about"],
        routes=content.get("routes"),
    )


def proven(root: Path, model: str) -> dict[str, Any]:
    """Return the content of a folder's manifest, once every file is found to be the one exported.

    `InputError` for a folder that is changed, cut short, or holds another kind of policy.
    """
    content = _content(root)
    if content["model"] != model:
        kind = content["model"]
        opener = _OPENED_BY.get(kind, "the version of sterna that wrote it")
        raise InputError(f"{root}: holds a policy of kind {kind}; open it by {opener}")
    for name, expected in content["files"].items():
        found = sha256(root / name) if (root / name).is_file() else "no such file"
        if found != expected:
            raise InputError(
                f"{root / name}: not the file that was exported (SHA-256 expected "
                f"{expected[:12]}, found {found[:12]}); copy the folder again, or export again"
            )
    return content


def holding(root: Path, model: str, engine: str, threads: int) -> dict[str, Any]:
    """Return what `proven` does, of a folder that holds an engine, to be run on `threads`."""
    if threads < 1:
        raise InputError(f"threads must be at least 1, found {threads}")
    content = proven(root, model)
    if engine not in content["graphs"]:
        raise InputError(
            f"{root}: holds no engine {engine!r}, it has {', '.join(content['graphs'])}"
        )
    return content


def threshold_of(routes: Mapping[str, Any], rho: float | None, folder: Path) -> float:
    """Return the threshold of a budget (None: the usual one); `InputError` for an unknown one."""
    wanted = routes["rho"] if rho is None else rho
    for row in routes["budgets"]:
        if abs(row["rho"] - wanted) < 1e-9:
            return float(row["threshold"])
    known = ", ".join(f"{row['rho']:g}" for row in routes["budgets"])
    raise InputError(f"{folder}: has no budget {wanted:g}, it has {known}; calibrate, export again")


def kind_of(root: Path) -> str:
    """Return the kind of a folder's policy (`DUET`, `ACTOR`, `NAVIGATOR`); files are not proven."""
    return str(_content(root)["model"])


def is_export(folder: Path) -> bool:
    """Say whether a folder looks like an export (it names itself one)."""
    return (folder / MANIFEST).is_file()


def _content(root: Path) -> dict[str, Any]:
    if not is_export(root):
        raise InputError(
            f"{root}: expected an exported folder ({MANIFEST}), found none; make one with "
            "`sterna export MODEL --to DIR`"
        )
    content = read_json(root / MANIFEST)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else "no object"
        raise InputError(
            f"{root / MANIFEST}: expected format {FORMAT}, found {found}; export again with this "
            "version of sterna"
        )
    if content.get("digest") != digest(content):
        raise InputError(
            f"{root / MANIFEST}: its SHA-256 is not the one it holds, so it was changed or cut "
            "short; copy the folder again, or export again"
        )
    return content
