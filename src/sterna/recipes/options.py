"""Options that every long command takes, and what they mean; light, so that --help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options that every long command takes."""

    data: Path | None = None
    """Data folder (default: STERNA_DATA, else ./data)."""
    threads: int | None = None
    """CPU threads (default: all cores)."""
    json: bool = False
    """Print one JSON object on standard output."""


def find_data(data: Path | None, environment: str | None) -> Path:
    """Return the data folder: `data`, else `environment` (STERNA_DATA), else ``./data``."""
    root = data or (Path(environment) if environment else Path("data"))
    if not root.is_dir():
        raise InputError(
            f"no data folder at {root}; give --data DIR or set STERNA_DATA "
            "(`sterna data check DIR` says what belongs in it)"
        )
    return root


def use_threads(threads: int | None) -> None:
    """Fix the number of CPU threads, so that a run does not fight with others for cores."""
    if threads is None:
        return
    if threads < 1:
        raise InputError(f"--threads must be at least 1, found {threads}")
    import torch

    torch.set_num_threads(threads)
