"""What navigators are asked, and how strictly answers are read."""

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.errors import InputError
from sterna.metrics.protocol import R2R_CE, R2R_DUET, RXR_CE
from sterna.world.talk.answers import answer, parse
from sterna.world.talk.prompts import IMAGE, Wording, prompt

STYLES = ("vln-ego", "short")


@dataclass(frozen=True)
class Asked:
    instruction: str = "go to the red sofa"
    history: tuple = ()
    previous: np.ndarray = field(default_factory=lambda: np.array([], np.int64))


def test_the_published_answer():
    text = answer([1, 2, 3, 0], 30)
    assert text == (
        "A. Move forward 25 cm, B. Turn left 30 degrees, C. Turn right 30 degrees, D. Stop"
    )
    assert parse(text, 4, 30).tolist() == [1, 2, 3, 0]
    assert answer([2], 15) == "B. Turn left 15 degrees"
    assert answer([1], 7.5, forward_step=0.1) == "A. Move forward 10 cm"
    assert answer([1, 2, 0], 15, style="short") == "forward left stop"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_every_answer_is_read_as_it_was_meant(style, n):
    for actions in product(range(4), repeat=n):
        text = answer(actions, 15, style=style)
        assert parse(text, n, 15, style=style).tolist() == list(actions)
        assert parse(f" {text}\n", n, 15, style=style) is not None
        assert parse(text, n + 1, 15, style=style) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "A, A, D",
        "A. Move forward 25 cm",
        "A. Move forward 25 cm,D. Stop",
        "A. Move forward 25 cm, D. Stop.",
        "A. Move forward 25 cm, D. Stop, D. Stop",
        "a. move forward 25 cm, d. stop",
        "A. Move forward 25 cm,  D. Stop",
        "A. Move forward 25 cm, D. Stop,",
        "B. Move forward 25 cm, D. Stop",
        "A. Move forward 25 cm, B. Turn left 15 degrees",
        "I choose A. Move forward 25 cm, D. Stop",
        "A. Move forward 25 cm, D. Stop <|im_end|>",
    ],
)
def test_anything_else_is_no_answer(text):
    assert parse(text, 2, 30) is None
    assert parse("A. Move forward 25 cm, D. Stop", 2, 30).tolist() == [1, 0]


PIECES = st.sampled_from(
    [
        *("A. Move forward 25 cm", "B. Turn left 30 degrees", "C. Turn right 30 degrees"),
        *("D. Stop", ", ", ",", " ", "A", "left", "forward", "right", "stop", "\n", ".", "\u00a0"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=9).map("".join) | st.text(max_size=30), st.integers(1, 6))
def test_what_is_read_is_always_the_answer_of_what_was_read(text, n):
    for style in STYLES:
        actions = parse(text, n, 30, style=style)
        if actions is not None:
            assert actions.shape == (n,) and answer(actions, 30, style=style) == text.strip()


def test_actions_that_do_not_exist_are_refused():
    for bad in ([], [4], [-1], [1, 7]):
        with pytest.raises(InputError, match="0 stop, 1 forward"):
            answer(bad, 30)
    with pytest.raises(InputError, match="must be positive"):
        answer([1], 0)
    with pytest.raises(InputError, match="style must be vln-ego or short"):
        answer([1], 30, style="long")


@pytest.mark.parametrize("rules", [R2R_CE, RXR_CE])
def test_the_prompt_says_the_angle_at_which_the_simulator_turns(rules):
    """Trap 22 (what the simulator does: `test_crowd`)."""
    wording = Wording.of(rules)
    text = wording.prompt(Asked())
    degrees = f"{rules.turn_angle:g} degrees"
    assert text.count("degrees") == text.count(degrees) >= 4
    assert wording.texts[2] == f"B. Turn left {degrees}"
    assert f"forward {100 * rules.forward_step:g} cm" in text
    assert prompt(Asked(), rules.turn_angle) == text


def test_a_protocol_without_an_angle_is_refused():
    with pytest.raises(InputError, match="no turn_angle"):
        Wording.of(R2R_DUET)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("images", range(1, 18))
def test_a_prompt_has_one_mark_an_image(style, images):
    asked = Asked(instruction=f"look <image> and {IMAGE * 3} walk", history=(0,) * (images - 1))
    for previous in (False, True):
        text = prompt(asked, 30, style=style, previous=previous)
        assert text.count(IMAGE) == images


def test_options_stand_in_the_order_asked_for():
    listed = prompt(Asked(), 30).splitlines()
    first = listed.index("Options:") + 1
    assert [line[0] for line in listed[first : first + 4]] == list("ABCD")
    converted = prompt(Asked(), 30, order="DABC").splitlines()
    assert [line[0] for line in converted[first : first + 4]] == list("DABC")


def test_the_last_actions_are_told_oldest_first():
    asked = Asked(previous=np.array([1, 1, 2]))
    assert "forward forward left" in prompt(asked, 30, previous=True)
    assert "did forward forward left next" in prompt(asked, 30, style="short", previous=True)
    assert "forward left" not in prompt(asked, 30, style="short")


def test_an_instruction_stands_before_the_images_or_after_them():
    asked = Asked(previous=np.array([1, 1, 2]), history=(0, 0))
    first, last = (
        Wording(turn_angle=30, style="short", previous=True, told=told).prompt(asked)
        for told in ("first", "last")
    )
    assert first.startswith(asked.instruction) and first.endswith("did forward forward left next")
    assert last.startswith("seen") and last.endswith(f"left {asked.instruction} next")
    assert sorted(first.split()) == sorted(last.split())
    for style, told in (("short", "middle"), ("vln-ego", "last")):
        with pytest.raises(InputError, match="told must be first"):
            Wording(turn_angle=30, style=style, told=told)


def test_the_example_of_the_prompt_is_an_answer():
    wording = Wording(turn_angle=30, actions=6)
    example = wording.prompt(Asked()).splitlines()[-1].removeprefix("- such as: ")
    assert wording.parse(example).tolist() == [1, 2, 3, 0, 1, 2]
    with pytest.raises(InputError, match="order must be"):
        Wording(turn_angle=30, order="BACD")
    with pytest.raises(InputError, match="actions must be"):
        Wording(turn_angle=30, actions=0)
