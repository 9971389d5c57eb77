"""Answers: the same padded or not, cached or not, together or alone, in a group or one by one."""

from itertools import product

import numpy as np
import pytest
import torch

from sterna.errors import InputError
from sterna.models.navigator.generation import Answers, Sampling, sample
from sterna.models.navigator.processor import IGNORED
from sterna.world.talk.choices import choices, longest_answer
from toy_navigator import FAMILIES, SIDE, part, samples, tiny

SIZE = (SIDE, SIDE)


@pytest.fixture(scope="module", params=FAMILIES)
def navigator(request):
    return tiny(request.param)


@pytest.fixture(scope="module")
def asked():
    return samples(5)


def test_a_sample_alone_has_the_logits_it_has_in_a_padded_batch(navigator, asked):
    given, frames = asked
    answers = [navigator.wording.answer(a) for a in ([1, 1, 2], [0, 0, 0], [3, 1, 1], [2, 2, 1])]
    batch = navigator.batch(given, SIZE, frames=frames, answers=[*answers, answers[0]])
    with torch.no_grad():
        together = navigator(batch)
        assert together.shape[:2] == (5, 4)
        for row, answer in enumerate([*answers, answers[0]]):
            one, seen = part(given, frames, row)
            alone = navigator(navigator.batch(one, SIZE, frames=seen, answers=[answer]))
            torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=1e-4)


def test_features_serve_as_frames_do(navigator, asked):
    given, frames = asked
    with torch.no_grad():
        features = navigator.features(frames)
        assert features.shape == (len(frames), *navigator.token_shape(SIZE))
        texts = ["stop stop stop"] * 5
        by_frames = navigator(navigator.batch(given, SIZE, frames=frames, answers=texts))
        by_features = navigator(navigator.batch(given, SIZE, features=features, answers=texts))
    assert torch.equal(by_frames, by_features)
    assert navigator.features(frames[:0]).shape == (0, *features.shape[1:])


@pytest.mark.parametrize("constrained", [False, True])
def test_together_as_one_by_one(navigator, asked, constrained):
    given, frames = asked
    together = sample(
        navigator, navigator.batch(given, SIZE, frames=frames), constrained=constrained
    )
    for row in range(len(given)):
        one, seen = part(given, frames, row)
        alone = sample(navigator, navigator.batch(one, SIZE, frames=seen), constrained=constrained)
        assert alone.texts == together.texts[row : row + 1]
        assert alone.tokens(0) == together.tokens(row)
        length = alone.log_probs.shape[1]
        torch.testing.assert_close(
            alone.log_probs[0], together.log_probs[row, :length], atol=2e-5, rtol=1e-4
        )


def _read_again(navigator, given, frames, tokens):
    """Log-probabilities of answers when they are read as one, without kept keys and values."""
    batch = navigator.batch(given, SIZE, frames=frames, answers=tokens)
    with torch.no_grad():
        return navigator.log_probs(batch)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_kept_keys_and_values_change_nothing(navigator, asked, temperature):
    given, frames = asked
    answers = sample(
        navigator,
        navigator.batch(given, SIZE, frames=frames),
        temperature=temperature,
        generator=torch.Generator().manual_seed(3),
    )
    tokens = [answers.tokens(row) for row in range(len(given))]
    scores, kept = _read_again(navigator, given, frames, tokens)
    for row, told in enumerate(tokens):
        torch.testing.assert_close(
            scores[row][kept[row]],
            answers.log_probs[row, : len(told)],
            atol=3e-5,
            rtol=1e-4,
        )


def _own(answers: Answers, row: int) -> list[float]:
    return answers.log_probs[row][answers.mask[row]].tolist()


@pytest.mark.parametrize("style", ["short", "vln-ego"])
def test_constrained_answers_choose_by_what_the_model_says(style):
    """The likeliest of the four options at every place, by scoring all of them in full."""
    navigator = tiny(style=style, actions=2)
    given, frames = samples(1, seed=4)
    found = sample(navigator, navigator.batch(given, SIZE, frames=frames), constrained=True)
    actions = navigator.wording.parse(found.texts[0])
    assert navigator.processor.decode(found.tokens(0)) == found.texts[0]
    slots = choices(navigator.processor, navigator.wording)
    for place in range(2):
        heads = []
        for option in range(4):
            tried = [*actions[:place], option, *[0] * (1 - place)]
            tokens = [navigator.processor.answer_ids(navigator.wording.answer(tried))]
            scores, _ = _read_again(navigator, given, frames, tokens)
            begin = sum(
                len(slots.slot(i).shared) + 1 + len(slots.slot(i).tails[actions[i]])
                for i in range(place)
            )
            heads.append(float(scores[0, begin + len(slots.slot(place).shared)]))
        assert int(np.argmax(heads)) == actions[place]
        chosen = [score for score in _own(found, 0) if score][place]
        wanted = torch.tensor(heads).log_softmax(0)[actions[place]]
        assert chosen == pytest.approx(float(wanted), abs=3e-5)


def test_constrained_answers_can_always_be_read(navigator):
    given, frames = samples(8, seed=1)
    answers = sample(
        navigator,
        navigator.batch(given, SIZE, frames=frames),
        constrained=True,
        temperature=2.0,
        group=2,
        generator=torch.Generator().manual_seed(0),
    )
    parsed = [navigator.wording.parse(text) for text in answers.texts]
    assert len(parsed) == 16 and all(actions is not None for actions in parsed)
    assert len({tuple(actions) for actions in parsed}) > 4
    assert answers.ids.shape[1] == longest_answer(navigator.processor, navigator.wording)


def test_a_group_shares_its_question(navigator, asked):
    """Answers of a group are scored as their own questions would score them."""
    given, frames = asked
    answers = sample(
        navigator,
        navigator.batch(
            given[:2], SIZE, frames=frames[: len(given[0].history) + 1 + len(given[1].history) + 1]
        ),
        group=3,
        temperature=1.0,
        generator=torch.Generator().manual_seed(7),
    )
    assert len(answers.texts) == 6
    for row in range(6):
        one, seen = part(given, frames, row // 3)
        scores, kept = _read_again(navigator, one, seen, [answers.tokens(row)])
        torch.testing.assert_close(
            scores[0][kept[0]], torch.tensor(_own(answers, row)), atol=3e-5, rtol=1e-4
        )


def test_draws_follow_the_generator_and_the_probabilities():
    navigator = tiny(actions=1)
    given, frames = samples(1, images=1)
    batch = navigator.batch(given, SIZE, frames=frames)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return sample(navigator, batch, group=400, temperature=1.0, constrained=True,
                      generator=generator)  # fmt: skip

    first = draw(0)
    assert first.texts == draw(0).texts != draw(1).texts
    for text in navigator.wording.texts:
        rows = [row for row, told in enumerate(first.texts) if told == text]
        wanted = float(first.log_probs[rows[0], 0].exp()) if rows else 0.0
        assert len(rows) / 400 == pytest.approx(wanted, abs=0.12)


def test_the_mode_and_the_labels_are_left_alone(navigator, asked):
    given, frames = asked
    navigator.train()
    batch = navigator.batch(given, SIZE, frames=frames)
    texts = navigator.generate(batch)
    assert navigator.training and navigator.eval().generate(batch) == texts
    answered = navigator.batch(given, SIZE, frames=frames, answers=["stop stop stop"] * 5)
    assert int((navigator.targets(answered) != IGNORED).sum()) == 20
    with pytest.raises(InputError, match="holds answers already"):
        navigator.generate(answered)
    with pytest.raises(InputError, match="no answers to weigh"):
        navigator(batch)
    with pytest.raises(InputError, match="give each sample's history"):
        navigator.batch(given, SIZE, frames=frames[:-1])
    with pytest.raises(InputError, match="a group of equal answers"):
        Sampling(group=2)


def test_all_answers_together_have_probability_one():
    """Constrained probabilities are a distribution over the 4^n answers."""
    navigator = tiny(actions=2)
    given, frames = samples(1, images=2)
    batch = navigator.batch(given, SIZE, frames=frames)
    answers = sample(navigator, batch, group=600, temperature=1.0, constrained=True,
                     generator=torch.Generator().manual_seed(0))  # fmt: skip
    seen = {text: sum(_own(answers, row)) for row, text in enumerate(answers.texts)}
    total = sum(np.exp(score) for score in seen.values())
    assert total <= 1 + 1e-4
    assert len(seen) == len(list(product(range(4), repeat=2))) or total > 0.9
