"""Prompts, answers and images as the tensors of a model; left padded, answers alone supervised.

Legend: B samples, S length of the longest, I images of all samples in order (each sample's history,
then its current frame), D width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.navigator.pixels import pool
from sterna.world.talk.images import Grid, ImageConfig, token_grid
from sterna.world.talk.reading import (
    NOW,
    PAST,
    Laid,
    Reader,
    Template,
    order_of,
    read_tokenizer,
)

IGNORED = -100
"""Label of what is not supervised."""


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


class Processor(Reader):
    """Makes `Encoded` batches for one model; see the module.

    `tokenizer` and the texts of `template` fix the tokens; `images` the size of an image in
    tokens. `InputError` for a token that the tokenizer does not have.
    """

    def __init__(self, tokenizer: Tokenizer, images: ImageConfig, template: Template) -> None:
        super().__init__(tokenizer, template, marks=images.marks)
        self.images = images

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
            PAST: token_grid(*size, self.images, past=True),
            NOW: token_grid(*size, self.images),
        }
        rows = [Laid(q + a, grids, self.image) for q, a in zip(questions, told, strict=True)]
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
            order=torch.from_numpy(order_of(past, grids)),
            tokens=grids[NOW],
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
