"""The parity card of an export: JSON for programs, Markdown for people."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

CARD, README = "card.json", "README.md"
_SCORES = ("SR", "SPL", "OSR", "NE", "RGS", "RGSPL")
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def machine() -> dict[str, str]:
    """Return what the numbers of a card were computed with."""
    found = {"machine": platform.machine(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def foot(card: Mapping[str, Any]) -> list[str]:
    """Return the last lines of a card: its graphs, and what made it."""
    made = ", ".join(f"{name} {version}" for name, version in card["made_with"].items())
    rows = [
        f"| {name} | {entry['bytes'] / 1e6:.2f} | {entry['sha256'][:16]} |"
        for name, entry in card["files"].items()
    ]
    return ["", "| file | MB | SHA-256 |", "|---|--:|---|", *rows, "", f"Made with {made}."]


def readme(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    sizes = card["sizes"]
    lines = [
        f"# {card['name']}, exported",
        "",
        f"A DUET navigator of {card['parameters']:,} parameters (width {sizes['hidden_size']}, "
        f"{sizes['language_layers']} language / {sizes['panorama_layers']} panorama / "
        f"{sizes['cross_layers']} cross-modal layers) for ONNX Runtime or OpenVINO; torch is not "
        "needed.",
        "",
        "```python",
        "from sterna.edge.runtime import Engine, Navigator",
        "",
        f'navigator = Navigator(Engine.open("this/folder", "{card["engines"][-1]}"))',
        "```",
        "",
        *_files(card),
        "",
        *_differences(card["differences"]),
        "",
        *_walks(card.get("walks")),
        "",
        "Made with " + ", ".join(f"{k} {v}" for k, v in card["made_with"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _files(card: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, f"{entry['bytes'] / 1e6:.1f}", entry["sha256"][:16]]
        for name, entry in card["files"].items()
    ]
    totals = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in card["bytes"].items())
    return [*_table(["file", "MB", "SHA-256"], rows), "", f"Graphs together: {totals}."]


def _differences(differences: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    size = ("words", "views", "nodes")
    outputs = [name for name in next(iter(differences.values()))[0] if name not in size]
    rows = [
        [engine, *(str(row[name]) for name in size), *(f"{row[name]:.1e}" for name in outputs)]
        for engine, entries in differences.items()
        for row in entries
    ]
    text = "Largest absolute difference from torch, random states:"
    return [text, "", *_table(["engine", *size, *outputs], rows)]


def _walks(walks: Mapping[str, Any] | None) -> list[str]:
    if walks is None:
        return ["Not walked in closed loop: exported with --no-walk."]
    names = [n for n in _SCORES if n in next(iter(walks["engines"].values()))["scores"]]
    rows = []
    for engine, entry in walks["engines"].items():
        scores = [f"{entry['scores'][name]:.4f}" for name in names]
        rows.append([engine, *scores, *_against_torch(entry, walks["episodes"])])
    heads = ["engine", *names, "same decisions", "largest difference of a chance", "same walks"]
    return [
        f"{walks['episodes']} episodes of {walks['split']}, protocol {walks['protocol']} "
        f"({walks['protocol_hash']}); decisions are compared at the {walks['decisions']} states of "
        "torch's own walks:",
        "",
        *_table(heads, rows),
    ]


def _against_torch(entry: Mapping[str, Any], episodes: int) -> list[str]:
    if "agreement" not in entry:
        return [""] * 3
    return [
        f"{100 * entry['agreement']:.2f}%",
        f"{entry['largest_difference']:.1e}",
        f"{entry['same_walks']}/{episodes}",
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
