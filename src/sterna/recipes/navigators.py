"""Navigators (vision-language models) as agents of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sterna.edge.runtime.answerer import Answerer, Walker
from sterna.edge.runtime.folder import NAVIGATOR, is_export, kind_of
from sterna.errors import InputError
from sterna.metrics.protocol import Protocol
from sterna.world.frames import Action
from sterna.world.geometry import Ints

_Seen = Mapping[str, Any]


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


def is_exported_navigator(folder: Path) -> bool:
    """Say whether a folder is an export of a navigator that answers in words."""
    return is_export(folder) and kind_of(folder) == NAVIGATOR


class ExportedAgent:
    """An exported navigator as an agent of an evaluation: one walker a slot, one graph for all."""

    name = "navigator"

    def __init__(self, answerer: Answerer, execute: int | None = None) -> None:
        """Use an opened export."""
        self.navigator, self._execute = answerer, execute
        self._walkers: dict[int, Walker] = {}
        Walker(answerer, execute=execute)  # refuses what cannot be executed

    def reset(
        self,
        slots: Sequence[int] | Ints,
        observations: Sequence[_Seen],
        episodes: Any = None,
    ) -> None:
        """Begin episodes in `slots`."""
        for slot, seen in zip(slots, observations, strict=True):
            walker = Walker(self.navigator, execute=self._execute)
            walker.start(str(seen["instruction"]))
            self._walkers[int(slot)] = walker

    def act(self, observations: Sequence[_Seen | None], active: Sequence[bool] | Any) -> Ints:
        """Return an action for every slot; STOP where `active` is False."""
        out = np.full(len(active), int(Action.STOP), np.int64)
        for slot, on in enumerate(active):
            seen = observations[slot]
            if on:
                if seen is None or slot not in self._walkers:
                    raise InputError(
                        f"navigator: slot {slot} acts before its episode began; reset it"
                    )
                out[slot] = self._walkers[slot].act(seen["rgb"])
        return out
