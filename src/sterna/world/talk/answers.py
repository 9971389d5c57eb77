"""The actions as text: what a navigator answers, and how strictly it is read.

Two styles. "vln-ego" (Qi et al., "VLN-R1", 2025): a letter and a sentence an action, such as
``A. Move forward 25 cm, B. Turn left 30 degrees``. "short": a word an action, such as
``forward left``, for models whose every token counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from sterna.errors import InputError
from sterna.world.frames import Action
from sterna.world.geometry import Ints

Style = Literal["vln-ego", "short"]
"""How prompts and answers are worded."""
FORWARD_STEP = 0.25
"""Metres of a forward action where nothing else is said: what VLN-CE's tasks fix."""

LETTERS = MappingProxyType(
    {Action.FORWARD: "A", Action.LEFT: "B", Action.RIGHT: "C", Action.STOP: "D"}
)
"""The letter of an option stays with its action, whatever the order of the options."""
WORDS = MappingProxyType(
    {Action.STOP: "stop", Action.FORWARD: "forward", Action.LEFT: "left", Action.RIGHT: "right"}
)
_JOINTS: Mapping[Style, str] = MappingProxyType({"vln-ego": ", ", "short": " "})


def check_style(style: str) -> None:
    """Raise `InputError` for a style that does not exist."""
    if style not in get_args(Style):
        raise InputError(f"style must be {' or '.join(get_args(Style))}, found {style!r}")


@cache
def options(
    turn_angle: float, *, style: Style = "vln-ego", forward_step: float = FORWARD_STEP
) -> Mapping[Action, str]:
    """Return the text of every action, by its number; angles in degrees, steps in metres."""
    check_style(style)
    if not (turn_angle > 0 and forward_step > 0):
        raise InputError(
            "answers: turn_angle (degrees) and forward_step (metres) must be positive, found "
            f"{turn_angle} and {forward_step}"
        )
    if style == "short":
        return WORDS
    said = {
        Action.STOP: "Stop",
        Action.FORWARD: f"Move forward {100 * forward_step:g} cm",
        Action.LEFT: f"Turn left {turn_angle:g} degrees",
        Action.RIGHT: f"Turn right {turn_angle:g} degrees",
    }
    return MappingProxyType({action: f"{LETTERS[action]}. {text}" for action, text in said.items()})


def answer(
    actions: Sequence[int] | Ints,
    turn_angle: float,
    *,
    style: Style = "vln-ego",
    forward_step: float = FORWARD_STEP,
) -> str:
    """Return the text of actions [n], oldest first.

    Raises `InputError` for a number that is no `Action`, or for no actions at all.
    """
    texts = options(turn_angle, style=style, forward_step=forward_step)
    values = [int(action) for action in actions]
    if not values or not all(value in texts for value in values):
        raise InputError(
            f"answers: expected actions 0 stop, 1 forward, 2 left or 3 right, found {values[:8]}"
        )
    return _JOINTS[style].join(texts[Action(value)] for value in values)


def parse(
    text: str,
    n: int,
    turn_angle: float,
    *,
    style: Style = "vln-ego",
    forward_step: float = FORWARD_STEP,
) -> Ints | None:
    """Return the actions [n] that a text says, or None if it is anything but such an answer.

    Strict: exactly n options, each letter with its own sentence, joined as `answer` joins them;
    only white space around the whole is forgiven. So every text that is read is the `answer` of
    what was read.
    """
    numbers = _numbers(turn_angle, style, forward_step)
    parts = text.strip().split(_JOINTS[style])
    if len(parts) != n or not all(part in numbers for part in parts):
        return None
    return np.array([numbers[part] for part in parts], np.int64)


@cache
def _numbers(turn_angle: float, style: Style, forward_step: float) -> Mapping[str, int]:
    texts = options(turn_angle, style=style, forward_step=forward_step)
    return {text: int(action) for action, text in texts.items()}
