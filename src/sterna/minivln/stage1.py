"""MiniVLN's first stage: during pre-training the student's blocks follow blocks of the teacher.

Source: MiniVLN (arXiv 2409.18800), eqs. (1)-(5); where the paper is silent the choices stand in
docs/decisions/pretraining.md.

Legend: R rows, Q tokens, H heads, N teacher blocks, n student blocks, D student width, E teacher
width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sterna import processes
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.pretraining import Layers, PretrainModel, PretrainOutput
from sterna.train.pretrain.batch import PretrainBatch, walk_inputs
from sterna.train.pretrain.objects import Objects
from sterna.train.pretrain.task import PretrainConfig, PretrainTask
from sterna.train.task import TaskOutput

MODULES = ("language", "panorama", "local", "global")
"""Modules whose blocks are distilled; each has a width map of its own."""


@dataclass(frozen=True, kw_only=True)
class Stage1Config:
    """Which of the teacher's inner workings the student learns from, and how much."""

    weight: float = 1.0
    """Multiplies the sum of all terms beside the loss of the pre-training task."""
    embedding: bool = True
    """Eq. (1): mean squared error of the word embeddings."""
    attention: bool = True
    """Eq. (3): mean squared error of the attention scores before softmax."""
    hidden: bool = True
    """Eq. (4): mean squared error of the outputs of blocks."""
    normalise: bool = False
    """Divide each squared error by the teacher's mean square, so that terms are of order one."""
    teacher_precision: Literal["run", "fp32", "bf16"] = "run"
    """Type the teacher computes in: as the student does, or its own."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.weight >= 0:
            raise InputError(f"stage 1: weight must be >= 0, found {self.weight}")
        if self.weight and not (self.embedding or self.attention or self.hidden):
            raise InputError("stage 1: every term is off; switch one on or set weight 0")
        if self.teacher_precision not in ("run", "fp32", "bf16"):
            raise InputError(
                "stage 1: teacher_precision must be run, fp32 or bf16, found "
                f"{self.teacher_precision!r}"
            )


def block_map(teacher: int, student: int) -> tuple[int, ...]:
    """Return h(m) for m = 1 .. student, both counted from 1: floor(m * teacher / student).

    Eq. (5)'s 3m for 9 to 3 blocks and 2m for 2 to 1 and 4 to 2; the last block always follows the
    last. Raises `InputError` for a student with more blocks than its teacher.
    """
    if student > teacher:
        raise InputError(
            f"stage 1: the student has {student} blocks where the teacher has {teacher}; give it "
            f"at most {teacher}"
        )
    return tuple(m * teacher // student for m in range(1, student + 1))


def block_maps(teacher: DuetConfig, student: DuetConfig) -> dict[str, tuple[int, ...]]:
    """Return the block maps of all modules, by the names in `MODULES`."""
    depths = {
        "language": (teacher.language_layers, student.language_layers),
        "panorama": (teacher.panorama_layers, student.panorama_layers),
        "local": (teacher.cross_layers, student.cross_layers),
        "global": (teacher.cross_layers, student.cross_layers),
    }
    out = {}
    for name, (deep, shallow) in depths.items():
        try:
            out[name] = block_map(deep, shallow)
        except InputError as error:
            raise InputError(f"{name} blocks: {error}") from None
    return out


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor, *, normalise: bool) -> Tensor:
    """Return the mean of (t - s)^2 over valid tokens and widths, eqs. (1) and (4).

    `student` (mapped) and `teacher` [R, Q, E], `mask` bool [R, Q]. With `normalise` it is divided
    by the mean of t^2 over the same entries (no gradient).
    """
    theirs = teacher.detach()[mask].float()
    return _relative(student[mask].float(), theirs, theirs.numel(), normalise)


def attention_loss(student: Tensor, teacher: Tensor, mask: Tensor, *, normalise: bool) -> Tensor:
    """Return 1/H sum_i mean of (A_i^T - A_i^S)^2 over valid pairs of tokens, eq. (3).

    `student` and `teacher` [R, H, Q, Q] are scores of eq. (2), without mask or bias; a pair is
    valid where both its tokens are (`mask` bool [R, Q]). `normalise` as in `hidden_loss`.
    """
    pairs = (mask[:, :, None] & mask[:, None, :])[:, None]
    mine = student.float().masked_fill(~pairs, 0.0)
    theirs = teacher.detach().float().masked_fill(~pairs, 0.0)
    return _relative(mine, theirs, int(pairs.sum()) * student.shape[1], normalise)


def _relative(student: Tensor, teacher: Tensor, count: float, normalise: bool) -> Tensor:
    """Sum of squared differences over `count` entries, or over the teacher's squares.

    Both are those of all processes that share a batch, whose gradients are averaged.
    """
    count = max(1, count) if processes.alone() else max(1.0, processes.mean(float(count)))
    error = (student - teacher).square().sum() / count
    if not normalise:
        return error
    return error / (processes.mean(teacher.square().sum()) / count).clamp(min=1e-12)


class Stage1Task(PretrainTask):
    """A pre-training task beside a frozen teacher that sees the same masked batch.

    loss = task loss + weight * (L_emb + sum over modules and blocks m of L_attn + L_hidn), where
    block m follows block h(m) of the teacher. Modules are those that the batch's task runs; masked
    words go through the text branches of both encoders, the other tasks through the visual ones.
    """

    def __init__(
        self,
        student: PretrainModel,
        teacher: PretrainModel,
        panoramas: Panoramas,
        config: PretrainConfig,
        stage1: Stage1Config,
        *,
        view_logits: NDArray[np.floating] | None = None,
        objects: Objects | None = None,
        teacher_panoramas: Panoramas | None = None,
        teacher_objects: Objects | None = None,
    ) -> None:
        """Put the student beside its teacher.

        `teacher_panoramas` and `teacher_objects` give the teacher other features of the same scans.
        Raises `InputError` where the number of heads differs while attention is distilled, where
        the student is deeper, or where the two read other words or other kinds of tokens.
        """
        super().__init__(student, panoramas, config, view_logits=view_logits, objects=objects)
        self.stage1 = stage1
        mine, theirs = student.policy.config, teacher.policy.config
        _require_alike(mine, theirs, stage1)
        self.blocks = block_maps(theirs, mine)
        # In a list, so that the teacher is neither trained, nor saved, nor put in train mode.
        self._teacher = [teacher.eval().requires_grad_(False)]
        self._their_panoramas = teacher_panoramas or panoramas
        self._their_objects = teacher_objects or objects
        self._their_table = torch.from_numpy(self._their_panoramas.features)
        self._check_teacher()
        self.embedding_map = _width_map(mine.hidden_size, theirs.hidden_size)
        self.hidden_maps = nn.ModuleDict(
            {name: _width_map(mine.hidden_size, theirs.hidden_size) for name in MODULES}
        )

    @property
    def teacher(self) -> PretrainModel:
        """The frozen teacher."""
        return self._teacher[0]

    def _check_teacher(self) -> None:
        config, seen = self.teacher.policy.config, self._their_panoramas
        if config.feature_size != seen.size:
            raise InputError(
                f"stage 1: the teacher reads views of width {config.feature_size}, found "
                f"{seen.size}; give teacher_panoramas with the features that it was trained on"
            )
        found = None if self._their_objects is None else self._their_objects.size
        if config.object_size != found:
            raise InputError(
                f"stage 1: the teacher reads objects of width {config.object_size}, found {found}; "
                "give teacher_objects with the features that it was trained on"
            )
        if not np.array_equal(seen.token_rows, self.panoramas.token_rows):
            raise InputError(
                "stage 1: teacher and student see panoramas of other scans or view angles; open "
                "both view stores for the same scans, with the same views"
            )

    @torch.no_grad()
    def explain(self, batch: PretrainBatch) -> PretrainOutput:
        """Run the teacher over a batch; what is hidden from the student is hidden from it too."""
        device = next(self.model.parameters()).device
        self.teacher.to(device)
        with self._teaching(device):
            inputs = walk_inputs(
                batch, self._their_panoramas, self._their_table, self._their_objects, device
            )
            output: PretrainOutput = self.teacher(batch.task, inputs, details=True)
        return output

    def _teaching(self, device: torch.device) -> AbstractContextManager[object]:
        wanted = self.stage1.teacher_precision
        if wanted == "run":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16, enabled=wanted == "bf16")

    def forward(self, batch: PretrainBatch) -> TaskOutput:
        """Return the task's loss plus the weighted sum of distillation terms."""
        if not self.stage1.weight:
            return super().forward(batch)
        output: PretrainOutput = self.model(batch.task, self.inputs(batch), details=True)
        done = self.learn(batch, output)
        terms = self.terms(output, self.explain(batch))
        total = torch.stack(list(terms.values())).sum()
        named = {name: float(term.detach()) for name, term in terms.items()}
        return TaskOutput(done.loss + self.stage1.weight * total, done.metrics | named)

    def terms(self, mine: PretrainOutput, theirs: PretrainOutput) -> dict[str, Tensor]:
        """Return the terms of eqs. (1), (3), (4): `embedding`, and per module sums over blocks."""
        config, out = self.stage1, {}
        if config.embedding:
            assert mine.embedding is not None and theirs.embedding is not None
            assert mine.words is not None
            out["embedding"] = hidden_loss(
                self.embedding_map(mine.embedding),
                theirs.embedding,
                mine.words,
                normalise=config.normalise,
            )
        for name, layers in mine.layers.items():
            for term, value in self._block_terms(name, layers, theirs.layers).items():
                out[f"{name}_{term}"] = value
        return out

    def _block_terms(
        self, name: str, mine: Layers, theirs: Mapping[str, Layers]
    ) -> dict[str, Tensor]:
        """Return a module's sums over blocks m of L_attn and of L_hidn, eq. (5)."""
        config, teacher = self.stage1, theirs[name]
        to_teacher = self.hidden_maps[name]
        sums: dict[str, list[Tensor]] = {}
        for number, source in enumerate(self.blocks[name]):
            if config.attention:
                loss = attention_loss(
                    mine.scores[number],
                    teacher.scores[source - 1],
                    mine.mask,
                    normalise=config.normalise,
                )
                sums.setdefault("attention", []).append(loss)
            if config.hidden:
                loss = hidden_loss(
                    to_teacher(mine.hidden[number]),
                    teacher.hidden[source - 1],
                    mine.mask,
                    normalise=config.normalise,
                )
                sums.setdefault("hidden", []).append(loss)
        return {term: torch.stack(losses).sum() for term, losses in sums.items()}


def _require_alike(student: DuetConfig, teacher: DuetConfig, stage1: Stage1Config) -> None:
    if stage1.weight and stage1.attention and student.heads != teacher.heads:
        raise InputError(
            f"stage 1: attention is distilled head by head, so the student needs {teacher.heads} "
            f"heads as its teacher has, found {student.heads}; choose a width that is a multiple "
            f"of {teacher.heads}, or switch the attention term off"
        )
    if student.vocab_size != teacher.vocab_size:
        raise InputError(
            f"stage 1: the student reads {student.vocab_size} word pieces, the teacher "
            f"{teacher.vocab_size}; both must use one vocabulary"
        )
    if (student.object_size is None) != (teacher.object_size is None):
        raise InputError(
            f"stage 1: object_size is {student.object_size} in the student and "
            f"{teacher.object_size} in the teacher; both or neither must see objects"
        )


def _width_map(width: int, wide: int) -> nn.Linear:
    """Return a linear map without bias; the identity between equal widths."""
    linear = nn.Linear(width, wide, bias=False)
    if width == wide:
        nn.init.eye_(linear.weight)
    else:
        nn.init.normal_(linear.weight, std=width**-0.5)
    return linear
