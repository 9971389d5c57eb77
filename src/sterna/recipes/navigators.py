"""Navigators (vision-language models) as agents of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sterna.errors import InputError
from sterna.metrics.protocol import Protocol


def open_navigator(
    folder: Path,
    *,
    seed: int = 0,
    execute: int | None = None,
    blind: bool = False,
    temperature: float = 0.0,
) -> Any:
    """Open a navigator's folder as an agent; `InputError` for a folder that holds none."""
    if not (folder / "navigator.json").is_file():
        raise InputError(
            f"{folder}: holds no navigator (navigator.json); give the folder of one, as `sterna "
            "sft` and `sterna grpo` write it"
        )
    from sterna.models.navigator.agent import ActingConfig, NavigatorAgent
    from sterna.models.navigator.folder import load

    acting = ActingConfig(execute=execute, seed=seed, blind=blind, temperature=temperature)
    return NavigatorAgent(load(folder), acting)


def check_turns(agent: Any, protocol: Protocol) -> None:
    """Raise `InputError` unless a navigator speaks of the turns that the protocol makes."""
    wording = getattr(getattr(agent, "navigator", None), "wording", None)
    angle = getattr(wording, "turn_angle", None)
    if angle is not None and float(angle) != protocol.turn_angle:
        raise InputError(
            f"the navigator speaks of turns of {angle:g} degrees, protocol {protocol.name} makes "
            f"turns of {protocol.turn_angle:g}; give the protocol it was trained for (--protocol)"
        )
