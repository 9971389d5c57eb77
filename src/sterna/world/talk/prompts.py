"""What a navigator is asked: the instruction, images of the past and of now, the options.

An image is written ``<image>``; the processor puts the model's own image tokens there. Images come
in the order history (oldest first), current.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, Protocol, get_args

import numpy as np

from sterna.errors import InputError
from sterna.world.frames import Action
from sterna.world.geometry import Ints
from sterna.world.talk.answers import (
    FORWARD_STEP,
    WORDS,
    Style,
    answer,
    check_style,
    options,
    parse,
)

IMAGE = "<image>"
Order = Literal["ABCD", "DABC"]
"""Order in which options are listed; DABC is that of VLN-Ego's converter."""
Told = Literal["first", "last"]
"""Where the instruction stands: before all images, or after them."""


class Rules(Protocol):
    """What a wording needs of an evaluation protocol (`sterna.metrics.Protocol` is one)."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def turn_angle(self) -> float | None:
        """Degrees of a turn; None on graphs."""

    @property
    def forward_step(self) -> float | None:
        """Metres of a step forward; None on graphs."""


class Asked(Protocol):
    """What a prompt is made of; `sterna.data.ego.samples.EgoSample` is one."""

    @property
    def instruction(self) -> str:
        """What to do, in words."""

    @property
    def history(self) -> Sized:
        """Past frames, oldest first; their number alone matters here."""

    @property
    def previous(self) -> Ints:
        """Last actions taken, oldest first."""


@dataclass(frozen=True)
class Question:
    """What an agent on its way asks, as `Asked`."""

    instruction: str
    history: Ints
    previous: Ints


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How a navigator is asked and answers; everything that decides the text of a sample."""

    turn_angle: float
    """Degrees of a turn, as the simulator turns."""
    forward_step: float = FORWARD_STEP
    """Metres of a step forward."""
    actions: int = 6
    """Actions of an answer."""
    style: Style = "vln-ego"
    """vln-ego: the published structure; short: few tokens, for small models."""
    order: Order = "ABCD"
    """Order of the options (vln-ego alone; short lists none)."""
    previous: bool = False
    """Tell the last actions taken."""
    told: Told = "first"
    """first: attention is causal, so images are seen in the instruction's light; last: its words
    look for themselves in the images (short alone; vln-ego begins with it)."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_style(self.style)
        options(self.turn_angle, forward_step=self.forward_step)
        if self.actions < 1:
            raise InputError(f"wording: actions must be at least 1, found {self.actions}")
        if self.order not in get_args(Order):
            raise InputError(f"wording: order must be ABCD or DABC, found {self.order!r}")
        if self.told not in get_args(Told) or (self.told == "last" and self.style != "short"):
            raise InputError(
                f"wording: told must be first, or (in style short) last, found {self.told!r}"
            )

    @classmethod
    def of(
        cls,
        rules: Rules,
        *,
        actions: int = 6,
        style: Style = "vln-ego",
        order: Order = "ABCD",
        previous: bool = False,
        told: Told = "first",
    ) -> Wording:
        """Return the wording whose angle and step are the protocol's; `InputError` if it has none.

        The only way by which an environment's samples should get theirs: what the prompt says and
        what the simulator does are then one value.
        """
        if rules.turn_angle is None or rules.forward_step is None:
            raise InputError(
                f"protocol {rules.name}: it has no turn_angle or forward_step; navigators need one "
                "of continuous space, such as R2R_CE"
            )
        return cls(
            turn_angle=rules.turn_angle,
            forward_step=rules.forward_step,
            actions=actions,
            style=style,
            order=order,
            previous=previous,
            told=told,
        )

    def prompt(self, sample: Asked) -> str:
        """Return the question of a sample; it holds ``<image>`` once an image."""
        return _short(sample, self) if self.style == "short" else _vln_ego(sample, self)

    def answer(self, actions: Sequence[int] | Ints) -> str:
        """Return the text of actions [n]."""
        return answer(actions, self.turn_angle, style=self.style, forward_step=self.forward_step)

    def parse(self, text: str) -> Ints | None:
        """Return the actions [n] of a text, or None unless it is exactly such an answer."""
        return parse(
            text, self.actions, self.turn_angle, style=self.style, forward_step=self.forward_step
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each action, by its number."""
        found = options(self.turn_angle, style=self.style, forward_step=self.forward_step)
        return tuple(found[action] for action in Action)


def prompt(
    sample: Asked,
    turn_angle: float,
    *,
    n: int = 6,
    style: Style = "vln-ego",
    order: Order = "ABCD",
    previous: bool = False,
    forward_step: float = FORWARD_STEP,
) -> str:
    """Return the question of a sample (`Wording.prompt` in one call); angle in degrees."""
    return Wording(
        turn_angle=turn_angle,
        forward_step=forward_step,
        actions=n,
        style=style,
        order=order,
        previous=previous,
    ).prompt(sample)


def _clean(instruction: str) -> str:
    """Return an instruction on one line that cannot pass for an image."""
    return " ".join(instruction.replace(IMAGE, " ").split())


def _done(sample: Asked) -> str:
    """Return the last actions in words, oldest first."""
    return " ".join(WORDS[Action(int(action))] for action in np.asarray(sample.previous)) or "none"


def _vln_ego(sample: Asked, wording: Wording) -> str:
    """Return a prompt of VLN-Ego's structure: role, observations, task, options, rules, example."""
    texts = options(wording.turn_angle, forward_step=wording.forward_step)
    listed = sorted(texts.values())  # by letter
    if wording.order == "DABC":
        listed = [listed[-1], *listed[:-1]]
    n, past = wording.actions, " ".join([IMAGE] * len(sample.history)) or "None"
    example = ", ".join(islice(cycle(sorted(texts.values())), n))
    before = [f"- Last actions, oldest first: {_done(sample)}"] if wording.previous else []
    return "\n".join(
        [
            "You are a robot that walks through buildings and follows an instruction: "
            f"{_clean(sample.instruction)!r}",
            "You see:",
            f"- Historical observations, oldest first: {past}",
            f"- Current observation: {IMAGE}",
            *before,
            f"Decide on the next {n} {'action' if n == 1 else 'actions'}.",
            "Options:",
            *listed,
            "Format:",
            f"- give exactly {n}, in the order in which to act",
            "- write each option in full, letter and text",
            "- put a comma and a blank between options and nothing else",
            f"- such as: {example}",
        ]
    )


def _short(sample: Asked, wording: Wording) -> str:
    """Return a prompt of few tokens."""
    past = IMAGE * len(sample.history)
    did = f" did {_done(sample)}" if wording.previous else ""
    seen, text = f"seen{past} now{IMAGE}{did}", _clean(sample.instruction)
    return f"{text} {seen} next" if wording.told == "first" else f"{seen} {text} next"
