"""Prompts, answers and images as the tensors of a model; left padded, answers alone supervised.

Legend: B samples, S length of the longest, I images of all samples in order (each sample's history,
then its current frame), D width.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.navigator.pixels import Grid, ImageConfig, pool, token_grid
from sterna.models.navigator.prompts import IMAGE
from sterna.world.geometry import Ints

IGNORED = -100
"""Label of what is not supervised."""
_SPECIAL = re.compile(r"(<\|[a-z_]+\|>)")
_PAST, _NOW = -1, -2  # stand for images until their tokens are laid out


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


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A batch of questions, with or without answers; padding is on the left."""

    ids: Tensor
    """Token ids [B, S]."""
    mask: Tensor
    """1 where there is a token, 0 where there is padding [B, S]."""
    positions: Tensor
    """Position of each token in time, row and column [3, B, S] (M-RoPE)."""
    following: Tensor
    """Position of the token that comes next [B]."""
    labels: Tensor | None
    """Ids where the answer is, -100 elsewhere [B, S]; None without answers."""
    past: Tensor
    """Which images are of the history, bool [I]."""
    order: Tensor
    """Where in [current tokens | pooled history tokens] each image token of the batch is."""
    tokens: Grid
    """Rows and columns of tokens of a current frame."""
    answer_length: int
    """Last columns that hold the longest answer with its end; 0 without answers."""

    def to(self, device: torch.device | str) -> Encoded:
        """Return the batch on a device."""
        moved: dict[str, Any] = {
            k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()
        }
        return Encoded(**moved)


class Processor:
    """Makes `Encoded` batches for one model; see the module.

    `tokenizer` and the texts of `template` fix the tokens; `images` the size of an image in
    tokens. `InputError` for a token that the tokenizer does not have.
    """

    def __init__(self, tokenizer: Tokenizer, images: ImageConfig, template: Template) -> None:
        self.tokenizer, self.images, self.template = tokenizer, images, template
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
                items.append(_NOW if place == len(pieces) - 1 else _PAST)
            items.append(piece)
        items += self._after
        return self._joined(items, len(self._before))

    def _joined(self, items: Sequence[str | int], ours: int) -> list[int]:
        """Encode texts, neighbours as one; only the template's own specials become tokens."""
        out: list[int] = []
        text, last = "", len(items) - len(self._after)
        for place, item in enumerate([*items, _PAST]):
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
        return [self.image_start, kind, self.image_end] if self.images.marks else [kind]

    def answer_ids(self, answer: str) -> list[int]:
        """Return the tokens of an answer and its end."""
        return [*self.text_ids(answer), self.end]

    def encode(
        self,
        prompts: Sequence[str],
        size: Grid,
        answers: Sequence[str] | Sequence[Sequence[int]] | None = None,
    ) -> Encoded:
        """Return a batch; `size` are rows and columns of the frames in pixels.

        `answers` are texts, or token ids that are taken as they are (with their end, if any).

        Every ``<image>`` of a prompt is an image; the last is the current frame, those before are
        of the history (and smaller, by `ImageConfig.history_pool`).
        """
        questions = [self.question(prompt) for prompt in prompts]
        told = [[] for _ in prompts] if answers is None else [self._told(a) for a in answers]
        grids = {
            _PAST: token_grid(*size, self.images, past=True),
            _NOW: token_grid(*size, self.images),
        }
        rows = [_Laid(q + a, grids, self.image) for q, a in zip(questions, told, strict=True)]
        length = max(len(row.ids) for row in rows)
        count = len(rows)
        ids = np.full((count, length), self.pad, np.int64)
        mask = np.zeros((count, length), np.int64)
        positions = np.zeros((3, count, length), np.int64)
        labels = np.full((count, length), IGNORED, np.int64)
        for i, (row, answer) in enumerate(zip(rows, told, strict=True)):
            begin = length - len(row.ids)
            ids[i, begin:], mask[i, begin:], positions[:, i, begin:] = row.ids, 1, row.positions
            if answer:
                labels[i, -len(answer) :] = answer
        past = np.concatenate([row.past for row in rows])
        return Encoded(
            ids=torch.from_numpy(ids),
            mask=torch.from_numpy(mask),
            positions=torch.from_numpy(positions),
            following=torch.tensor([row.following for row in rows]),
            labels=None if answers is None else torch.from_numpy(labels),
            past=torch.from_numpy(past),
            order=torch.from_numpy(_order(past, grids)),
            tokens=grids[_NOW],
            answer_length=max(map(len, told)),
        )

    def _told(self, answer: str | Sequence[int]) -> list[int]:
        return self.answer_ids(answer) if isinstance(answer, str) else list(answer)

    def place(self, features: Tensor, encoded: Encoded) -> Tensor:
        """Return the image tokens of a batch, in order, from features [I, T, D] of its images."""
        by = self.images.history_pool
        if by == 1:
            return features.flatten(0, 1)
        now, past = features[~encoded.past], features[encoded.past]
        bank = torch.cat([now.flatten(0, 1), pool(past, encoded.tokens, by).flatten(0, 1)])
        return bank[encoded.order]

    def save(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer.json; return what else `load` needs, as JSON values."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        return {"images": asdict(self.images), "template": asdict(self.template)}

    @classmethod
    def load(cls, folder: Path, values: Any) -> Processor:
        """Rebuild what `save` wrote."""
        images: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values["images"].items()
        }
        tokenizer = read_tokenizer(folder)
        return cls(tokenizer, ImageConfig(**images), Template(**values["template"]))


class _Laid:
    """One sample laid out: images expanded to their tokens, positions counted."""

    def __init__(self, items: Sequence[int], grids: dict[int, Grid], image: int) -> None:
        marks = np.array(items, np.int64)
        self.past: NDArray[np.bool_] = marks[marks < 0] == _PAST
        sides = np.array([grids[mark] for mark in (_PAST, _NOW)])
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


def _order(past: NDArray[np.bool_], grids: dict[int, Grid]) -> Ints:
    """Return, for the tokens of images in order, their places in [current | history]."""
    now, then = (int(np.prod(grids[mark])) for mark in (_NOW, _PAST))
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


def read_images(folder: Path) -> ImageConfig:
    """Read preprocessor_config.json of a published model; `InputError` for what is missing."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise InputError(f"{folder}: no {file.name} there; fetch the model's whole folder")
    found = read_json(file)
    size = found.get("size") or {}
    least: Any = found.get("min_pixels") or size.get("shortest_edge")
    most: Any = found.get("max_pixels") or size.get("longest_edge")
    try:
        return ImageConfig(
            patch=found["patch_size"],
            merge=found["merge_size"],
            temporal=found["temporal_patch_size"],
            min_pixels=int(least),
            max_pixels=int(most),
            mean=tuple(found["image_mean"]),
            std=tuple(found["image_std"]),
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{file}: expected the settings of a Qwen-VL image processor, {error} is missing or "
            f"wrong in {json.dumps(found)[:120]}"
        ) from error
