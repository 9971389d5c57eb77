"""Configurations for `accelerate launch`, one a way to share a run between GPUs."""

from __future__ import annotations

from pathlib import Path

from sterna.errors import InputError

_FOLDER = Path(__file__).with_name("accelerate")
SLURM = _FOLDER / "slurm.sh"
"""Script for several machines under Slurm; see docs/scale.md."""


def launches() -> dict[str, Path]:
    """Return the configuration files by name."""
    return {file.stem: file for file in sorted(_FOLDER.glob("*.yaml"))}


def launch_file(name: str) -> Path:
    """Return a configuration file; `InputError` lists the names if there is no such one."""
    found = launches()
    if name not in found:
        raise InputError(f"launch: expected one of {', '.join(found)}, found {name!r}")
    return found[name]


def command(name: str, words: str) -> str:
    """Return the line that starts `sterna` with these words in this way."""
    return f"accelerate launch --config_file {launch_file(name)} -m sterna.cli {words}"
