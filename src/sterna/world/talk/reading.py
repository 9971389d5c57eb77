"""Questions as tokens: the template around a prompt, images laid out among the words.

Legend: S tokens, I images in order (the history, then the current frame).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sterna.errors import InputError
from sterna.world.geometry import Ints
from sterna.world.talk.images import Grid
from sterna.world.talk.prompts import IMAGE

_SPECIAL = re.compile(r"(<\|[a-z_]+\|>)")
PAST, NOW = -1, -2  # stand for images until their tokens are laid out


@dataclass(frozen=True, kw_only=True)
class Template:
    """What stands around a prompt, and which tokens a model uses for what (by their text)."""

    before: str = ""
    after: str = ""
    end: str = "<|im_end|>"
    """Ends an answer; supervised too."""
    image: str = "<|image_pad|>"
    image_start: str = "<|vision_start|>"
    image_end: str = "<|vision_end|>"
    pad: str = "<|endoftext|>"


_USER = "<|im_start|>user\n"
_ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"
_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
TEMPLATES = {
    "qwen2_vl": Template(before=_SYSTEM + _USER, after=_ASSISTANT),
    "qwen2_5_vl": Template(before=_SYSTEM + _USER, after=_ASSISTANT),
    "qwen3_vl": Template(before=_USER, after=_ASSISTANT),
}
"""Chat templates of the published instruct models, by family."""


class Reader:
    """The tokens of questions for one model; see the module.

    `tokenizer` and the texts of `template` fix them, `marks` whether an image stands between two
    marks. `InputError` for a token that the tokenizer does not have.
    """

    def __init__(self, tokenizer: Tokenizer, template: Template, *, marks: bool) -> None:
        self.tokenizer, self.template, self.marks = tokenizer, template, marks
        # What a person writes never becomes a special token; ours are put in by number.
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.image, self.image_start, self.image_end, self.pad, self.end = (
            self._special(getattr(template, name))
            for name in ("image", "image_start", "image_end", "pad", "end")
        )
        self._before, self._after = (
            [part for part in _SPECIAL.split(text) if part]
            for text in (template.before, template.after)
        )
        self._ids = lru_cache(maxsize=65536)(self._encode_text)

    def _special(self, text: str) -> int:
        number = self.tokenizer.token_to_id(text)
        if number is None:
            raise InputError(f"tokenizer: it has no token {text!r}; give the model's own")
        return int(number)

    def _encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def text_ids(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text; none of them is special."""
        return self._ids(text) if text else ()

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of answer tokens, up to their end and without outer white space."""
        kept = list(ids)
        if self.end in kept:
            kept = kept[: kept.index(self.end)]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False)
        return text.strip()

    def question(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt in its template; images stand as -1 (past) and -2 (now)."""
        pieces = prompt.split(IMAGE)
        items: list[str | int] = list(self._before)
        for place, piece in enumerate(pieces):
            if place:
                items.append(NOW if place == len(pieces) - 1 else PAST)
            items.append(piece)
        items += self._after
        return self._joined(items, len(self._before))

    def _joined(self, items: Sequence[str | int], ours: int) -> list[int]:
        """Encode texts, neighbours as one; only the template's own specials become tokens."""
        out: list[int] = []
        text, last = "", len(items) - len(self._after)
        for place, item in enumerate([*items, PAST]):
            written = isinstance(item, str) and ours <= place < last
            if isinstance(item, str) and (written or not _SPECIAL.fullmatch(item)):
                text += item
                continue
            out += self.text_ids(text)
            text = ""
            if place < len(items):
                out += self._image(item) if isinstance(item, int) else [self._special(item)]
        return out

    def _image(self, kind: int) -> list[int]:
        return [self.image_start, kind, self.image_end] if self.marks else [kind]

    def answer_ids(self, answer: str) -> list[int]:
        """Return the tokens of an answer and its end."""
        return [*self.text_ids(answer), self.end]


class Laid:
    """One sample laid out: images expanded to their tokens, positions counted."""

    def __init__(self, items: Sequence[int], grids: Mapping[int, Grid], image: int) -> None:
        marks = np.array(items, np.int64)
        self.past: NDArray[np.bool_] = marks[marks < 0] == PAST
        sides = np.array([grids[mark] for mark in (PAST, NOW)])
        which = np.where(marks < 0, -1 - marks, 0)
        rows, columns = (np.where(marks < 0, sides[which, i], 1) for i in (0, 1))
        counts = rows * columns
        # An image takes as many positions as its longer side.
        advance = np.maximum(rows, columns)
        begin = np.cumsum(advance) - advance
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        width = np.repeat(columns, counts)
        start = np.repeat(begin, counts)
        self.ids: Ints = np.repeat(np.where(marks < 0, image, marks), counts)
        self.positions: Ints = np.stack([start, start + inside // width, start + inside % width])
        self.following = int(advance.sum())


def order_of(past: NDArray[np.bool_], grids: Mapping[int, Grid]) -> Ints:
    """Return, for the tokens of images in order, their places in [current | history]."""
    now, then = (int(np.prod(grids[mark])) for mark in (NOW, PAST))
    counts = np.where(past, then, now)
    first = np.where(past, (~past).sum() * now + (np.cumsum(past) - 1) * then, 0)
    first = np.where(past, first, (np.cumsum(~past) - 1) * now)
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    order: Ints = np.repeat(first, counts) + inside
    return order


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json of a folder; `InputError` if there is none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{folder}: no tokenizer.json there; fetch the model's whole folder")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the reader raises a bare Exception for whatever it dislikes
        raise InputError(f"{file}: not a tokenizer ({str(error)[:80]}); fetch it again") from error
