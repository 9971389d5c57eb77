"""A vision-language navigator: any Qwen-VL of transformers, its processor and its wording.

Legend: B samples, S length of the longest, I images of all samples, T tokens of a frame, D width of
a token (those of deeper layers beside it, for Qwen3-VL), A tokens of an answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.navigator.eyes import Eyes
from sterna.models.navigator.pixels import Frames, patches
from sterna.models.navigator.processor import IGNORED, Encoded, Processor
from sterna.world.talk.images import Grid, patch_grid
from sterna.world.talk.prompts import Asked, Wording

_AT_ONCE = 256  # frames the tower sees together


@dataclass(frozen=True, kw_only=True)
class History:
    """Which past frames a navigator is shown; see `sterna.world.talk.memory.history`."""

    kind: str = "long-short"
    budget: int = 16


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Questions (and answers) with their images, as frames or as the tower's features of them."""

    encoded: Encoded
    frames: Frames | None = None
    """uint8 [I, h, w, 3]."""
    features: Tensor | None = None
    """[I, T, D]; taken instead of frames where it is given."""

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device; frames stay where they are."""
        features = None if self.features is None else self.features.to(device)
        return Batch(encoded=self.encoded.to(device), frames=self.frames, features=features)


class VlmNavigator(nn.Module):
    """A model of transformers that is asked with frames and answers with actions.

    `model` is a Qwen2-VL, Qwen2.5-VL or Qwen3-VL (or such a one in peft's wrapper). `opened` makes
    one of a folder or a name (`folder.load`, `folder.open_published`), `small.small_model` anew.
    """

    def __init__(
        self,
        model: Any,
        processor: Processor,
        wording: Wording,
        *,
        history: History | None = None,
        base: str | None = None,
    ) -> None:
        """Put the parts together; `base` names the weights that an adapter stands on."""
        super().__init__()
        self.model, self.processor, self.wording = model, processor, wording
        self.history, self.base = history or History(), base

    @property
    def core(self) -> Any:
        """The model itself, out of peft's wrapper."""
        return self.model.get_base_model() if self.adapted else self.model

    @property
    def adapted(self) -> bool:
        """Whether it has a low-rank adapter."""
        return hasattr(self.model, "peft_config")

    @property
    def family(self) -> str:
        """Its family, as config.json names it."""
        return str(self.core.config.model_type)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        found: torch.device = self.core.get_input_embeddings().weight.device
        return found

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        found: nn.Module = self.core.model.visual
        return found

    @property
    def frozen_tower(self) -> bool:
        """Whether no weight of the tower is trained."""
        return not any(weight.requires_grad for weight in self.tower.parameters())

    def token_shape(self, size: Grid) -> tuple[int, int]:
        """Return (T, D) of a frame of `size` pixels (rows, columns)."""
        rows, columns = patch_grid(*size, self.processor.images)
        config = self.core.config
        deeper = len(getattr(config.vision_config, "deepstack_visual_indexes", ()))
        width = config.text_config.hidden_size * (1 + deeper)
        return rows * columns // self.processor.images.merge**2, width

    def features(self, frames: Frames) -> Tensor:
        """Return what the tower sees in frames uint8 [k, h, w, 3]: [k, T, D]; with gradient."""
        grid = patch_grid(frames.shape[1], frames.shape[2], self.processor.images)
        parts = [
            self._seen(frames[first : first + _AT_ONCE], grid)
            for first in range(0, len(frames), _AT_ONCE)
        ]
        if not parts:
            return torch.zeros(0, *self.token_shape(frames.shape[1:3]), device=self.device)
        return torch.cat(parts)

    def _seen(self, frames: Frames, grid: Grid) -> Tensor:
        pixels = patches(frames, self.processor.images).to(self.device)
        if isinstance(self.tower, Eyes):
            seen: Tensor = self.tower(pixels, grid)
            return seen
        sizes = torch.tensor([[1, *grid]] * len(frames), device=self.device)
        out = self.core.model.get_image_features(pixels.flatten(0, 1), image_grid_thw=sizes)
        layers = [out.pooler_output, *(getattr(out, "deepstack_features", None) or ())]
        return torch.cat([torch.stack(tuple(layer)) for layer in layers], -1)

    def batch(
        self,
        samples: Sequence[Asked],
        size: Grid,
        *,
        frames: Frames | None = None,
        features: Tensor | None = None,
        answers: Sequence[str] | Sequence[Sequence[int]] | None = None,
    ) -> Batch:
        """Return samples as a batch; frames (or features) of all, each history then current.

        `size` are rows and columns of a frame in pixels; `answers` are texts, or token ids as they
        were generated (their end included).
        """
        if not samples:
            raise InputError("navigator: a batch needs at least one sample")
        prompts = [self.wording.prompt(sample) for sample in samples]
        encoded = self.processor.encode(prompts, size, answers)
        given = frames if features is None else features
        if given is None or len(given) != len(encoded.past):
            raise InputError(
                f"navigator: {len(samples)} samples show {len(encoded.past)} images, "
                f"{0 if given is None else len(given)} were given; give each sample's history and "
                "then its current frame"
            )
        return Batch(encoded=encoded, frames=frames, features=features)

    def seen(self, batch: Batch) -> dict[str, Any]:
        """Return the images of a batch as the model's forward takes them."""
        features = batch.features
        if features is None:
            assert batch.frames is not None
            features = self.features(batch.frames)
        embeddings = self.core.get_input_embeddings().weight
        tokens = self.processor.place(features.to(embeddings), batch.encoded)
        parts = torch.split(tokens, embeddings.shape[1], -1)
        image = SimpleNamespace(
            pooler_output=(parts[0],), deepstack_features=[(part,) for part in parts[1:]]
        )
        return {"mm_encoder_outputs": {"image": image}}

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [B, A, V] of the tokens of the answers, in float32."""
        encoded = batch.encoded
        if not encoded.answer_length:
            raise InputError("navigator: the batch has no answers to weigh; give answers=...")
        out = self.model(
            input_ids=encoded.ids,
            attention_mask=encoded.mask,
            position_ids=encoded.positions,
            logits_to_keep=encoded.answer_length + 1,
            use_cache=False,
            **self.seen(batch),
        )
        logits: Tensor = out.logits[:, :-1].float()
        return logits

    @property
    def reads_apart(self) -> bool:
        """Whether questions can be read once for several answers, with gradient.

        Not where activations are computed again: nothing is kept of a question then.
        """
        # The property that says so has another name in every other version of transformers.
        return not any(getattr(m, "gradient_checkpointing", False) for m in self.core.modules())

    def read_questions(self, batch: Batch) -> Any:
        """Return the model's output: the logits [B, 1, V] of what comes next, keys and values."""
        encoded = batch.encoded
        return self.model(
            input_ids=encoded.ids,
            attention_mask=encoded.mask,
            position_ids=encoded.positions,
            logits_to_keep=1,
            use_cache=True,
            **self.seen(batch),
        )

    def answer_logits(
        self, batch: Batch, question: Tensor, answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Return what `forward` and `targets` do, of N answers to B questions, each read once.

        `question` [N] says which of the batch's questions each answer is to. Logits [N, A, V] and
        labels [N, A]; answers end on the right. `InputError` for a batch with answers.
        """
        encoded = batch.encoded
        if encoded.labels is not None:
            raise InputError("navigator: the batch holds answers already; give questions alone")
        out = self.read_questions(batch)
        first, cache = out.logits[question, -1:].float(), out.past_key_values
        cache.batch_select_indices(question)
        ids, mask = aligned(answers, self.processor.pad, self.device)
        places = encoded.following[question, None] + mask.cumsum(1) - 1
        out = self.model(
            input_ids=ids,
            attention_mask=torch.cat([encoded.mask[question], mask], 1),
            position_ids=places.clamp(min=0).expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
        )
        # A token is foretold by the one before it, an answer's first by its question.
        before = torch.cat([first, out.logits[:, :-1].float()], 1)
        begins = (mask.cumsum(1) == 1) & (mask == 1)
        logits = torch.where(begins[..., None], first, before)
        return logits, ids.masked_fill(mask == 0, IGNORED)

    def targets(self, batch: Batch) -> Tensor:
        """Return the labels [B, A] that `forward`'s logits are weighed with; -100 is nothing."""
        encoded = batch.encoded
        if encoded.labels is None:
            raise InputError("navigator: the batch has no answers; give answers=...")
        return encoded.labels[:, -encoded.answer_length :]

    def log_probs(self, batch: Batch, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return log-probabilities [B, A] of answer tokens (0 elsewhere) and where they are.

        Answers end on the right, so shorter ones begin later. With gradient.
        """
        logits, targets = self(batch) / temperature, self.targets(batch)
        kept = targets != IGNORED
        chosen = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return chosen.masked_fill(~kept, 0.0), kept

    def generate(self, batch: Batch, **options: Any) -> list[str]:
        """Return one answer a sample; see `generation.sample` for the options."""
        from sterna.models.navigator.generation import sample

        return sample(self, batch, **options).texts


def aligned(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows of tokens as one array, filled up on the left, and where they are (1 or 0)."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
