"""MiniVLN's second stage: the teacher walks the student's trajectory and explains itself.

Source: MiniVLN (arXiv 2409.18800), eqs. (6)-(9); where the paper is silent the choices stand in
docs/decisions/minivln-stage2.md.

Legend: B episodes, R rows (decisions), L words, M map slots, D student width, E teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sterna import processes
from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.minivln.remembered import Remembered
from sterna.models.agent import PanoramaEncoder, object_mask, token_batch
from sterna.models.duet import DUET
from sterna.models.text import TextMemory
from sterna.train.imitation import ImitationConfig, ImitationTask, Recorded, joined, record
from sterna.train.packed import Bucket, PackedOutput, navigate_packed
from sterna.train.task import TaskOutput
from sterna.world.geometry import Floats, Ints

IMPOSSIBLE = float("-inf")
_CORRECTIONS = 11
"""Keeps the draws of corrections apart from those of actions."""
_TEXTS, _FOLLOWED, _SWAPPED = 12, 13, 14
"""Keep the draws of texts that are read, followed, or changed, apart from all others."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Which of the teacher's signals the student learns from, and how much."""

    weight: float = 0.1
    """KDWeight: multiplies the sum of the three terms (Table V: 0.1)."""
    text: bool = True
    """Eq. (6): mean squared error of the language encoders' outputs."""
    panorama: bool = True
    """Eq. (7): mean squared error of the panorama means."""
    fuse: bool = True
    """Eq. (8): cross entropy of the fused navigation logits."""
    objects: bool = False
    """Not in the paper: cross entropy of the object logits, temperature 1, where objects are shown
    (REVERIE)."""
    temperature: float = 1.0
    """tau of the fuse term at the first iteration: tau^2 CE(softmax(T / tau), softmax(S / tau))."""
    final_temperature: float | None = None
    """tau at the last iteration, reached in a straight line; None: as `temperature`."""
    corrections: float = 0.0
    """Share of explored decisions whose hard label is the teacher's best slot, not the expert's."""
    normalise: bool = False
    """Divide each squared error by the teacher's mean square, so that terms are of order one."""

    teacher_precision: Literal["run", "fp32", "bf16"] = "run"
    """Type the teacher computes in: as the student does (--loop.precision), or its own."""
    fit_maps: bool = False
    """Not in the paper: W_l and W_r begin as the least-squares maps of the student as it is."""
    lessons: int = 0
    """Steps before the first iteration that fit the student's text and panorama encoders to the
    teacher's, on random instructions and viewpoints (no trajectory, cheap)."""
    lesson_size: int = 64
    """Instructions and viewpoints of each of these steps."""
    language_lessons: int = 0
    """Not in the paper: steps before those that fit words and language layers alone, on
    instructions of this task and of the texts that it reads."""
    language_lesson_rate: float = 3e-3
    """Peak learning rate of language lessons."""
    reading: int = 0
    """Not in the paper: instructions an iteration, over all processes, whose words are fitted to
    the teacher's without a walk (`texts` of the task; eq. (6) on other words than those of the
    episodes)."""
    swapped: int = 0
    """Not in the paper: further instructions an iteration (`texts` of the task) of which some words
    are swapped for any of the vocabulary before both models read them, so that the student comes
    to know words that no instruction holds."""
    swap: float = 0.4
    """Share of their words that are swapped."""
    words: tuple[int, int] = (1996, 29611)
    """First word piece that takes a place there, and one beyond the last (BERT uncased: words)."""
    follow: int = 0
    """Not in the paper: instructions an iteration, over all processes, that are followed by the
    shortest way to the end of their path (`texts` of the task, in the task's own scans). The
    teacher alone says what is right there, by every term that is on."""
    cache: bool = True
    """Keep the teacher's outputs for instructions and viewpoints on disk (--data.cache), so that
    later runs with this teacher start at once; the numbers are the same without."""

    def __post_init__(self) -> None:
        """Check the values."""
        self._check_lessons()
        self._check_beside()
        if self.teacher_precision not in ("run", "fp32", "bf16"):
            raise InputError(
                "distil: teacher_precision must be run, fp32 or bf16, found "
                f"{self.teacher_precision!r}"
            )
        if not self.weight >= 0:
            raise InputError(f"distil: weight must be >= 0, found {self.weight}")
        for name in ("temperature", "final_temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"distil: {name} must be positive and finite, found {value}")
        if not 0 <= self.corrections <= 1:
            raise InputError(
                f"distil: corrections is a share, from 0 to 1, found {self.corrections}"
            )
        if self.corrections and not self.weight:
            raise InputError(
                "distil: corrections need a teacher, and weight 0 trains the student alone; "
                "give a weight, or corrections 0"
            )
        if self.weight and not (self.text or self.panorama or self.fuse or self.objects):
            raise InputError("distil: every term is off; switch one on or set weight 0")

    def _check_lessons(self) -> None:
        """Check what is learnt before the walks."""
        if min(self.lessons, self.language_lessons) < 0 or self.lesson_size < 1:
            raise InputError(
                "distil: lessons and language_lessons must be 0 or more and lesson_size at least "
                f"1, found {self.lessons}, {self.language_lessons} and {self.lesson_size}"
            )
        if not self.language_lesson_rate > 0:
            raise InputError(
                "distil: language_lesson_rate must be positive, found "
                f"{self.language_lesson_rate:g}"
            )
        if self.lessons and not (self.text or self.panorama):
            raise InputError("distil: lessons need the text or the panorama term; switch one on")
        if self.language_lessons and not self.text:
            raise InputError("distil: language_lessons need the text term; switch it on")

    def _check_beside(self) -> None:
        """Check what is learnt beside the walks."""
        text = bool(self.weight and self.text)
        for name, can in (("reading", text), ("swapped", text), ("follow", bool(self.weight))):
            count = getattr(self, name)
            if count < 0 or (count and not can):
                term = "a weight" if name == "follow" else "the text term and a weight"
                raise InputError(
                    f"distil: {name} must be 0 or more, and needs {term}, found {count}, text "
                    f"{self.text}, weight {self.weight:g}"
                )
        if not 0 < self.swap <= 1 or not 0 <= self.words[0] < self.words[1]:
            raise InputError(
                "distil: swap is a share above 0, up to 1, and words are word pieces from one to "
                f"before another, found {self.swap:g} and {self.words[0]} {self.words[1]}"
            )

    def tau(self, done: float) -> float:
        """Return the temperature when `done` (0: first iteration, 1: last) of a run is behind."""
        if self.final_temperature is None:
            return self.temperature
        return self.temperature + done * (self.final_temperature - self.temperature)


def squared_error(student: Tensor, teacher: Tensor, weight: Tensor, *, normalise: bool) -> Tensor:
    """Return the weighted mean squared error over items.

    sum_i w_i mean_d (t_id - s_id)^2, both [N, E], `weight` [N] (sums to the roll-out weight);
    divided by the teacher's mean square (no gradient; that of all processes) when `normalise`.
    """
    teacher = teacher.detach().float()
    error = (student.float() - teacher).square().mean(-1)
    scale = processes.mean_square(teacher).clamp(min=1e-12) if normalise else 1.0
    return (error * weight).sum() / scale


def soft_cross_entropy(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Return -tau^2 sum_j softmax(teacher / tau)_j log softmax(student / tau)_j, [R].

    tau^2 keeps the size of the gradient, which shrinks as 1 / tau^2 (Hinton et al., 2015). Slots
    that are -inf in both are left out; a slot finite in only one of them is a programming error of
    the caller (both models must see the same map). Each row needs a finite slot.
    """
    closed = teacher == IMPOSSIBLE
    target = (teacher.detach().float() / tau).softmax(-1)
    logs = (student.float() / tau).log_softmax(-1).masked_fill(closed, 0.0)
    return -(target * logs).sum(-1) * tau**2


class DistillTask(ImitationTask):
    """Imitation plus the teacher's text, panorama and decision.

    The teacher is frozen, in eval mode, and sees the student's own trajectory. What does not depend
    on the student is computed once: its text outputs per instruction, its panorama per
    (viewpoint, pose).
    """

    def __init__(
        self,
        student: DUET,
        teacher: DUET,
        panoramas: Panoramas,
        config: ImitationConfig,
        distill: DistillConfig,
        *,
        teacher_panoramas: Panoramas | None = None,
        remembered: Remembered | None = None,
        texts: Sequence[Episode] = (),
    ) -> None:
        """`teacher_panoramas` gives the teacher other features of the same scans (same layout).

        `remembered` keeps the teacher's outputs; by default in memory. `texts` are instructions
        that `distill.reading` draws from (of each, its tokens and a name of its own count);
        `distill.follow` draws from those in scans of `panoramas`.
        """
        super().__init__(student, panoramas, config)
        here = panoramas.atlas.scan_number
        self._near = [text for text in texts if text.scan in here] if distill.follow else []
        read = distill.reading or distill.swapped
        if (read and not texts) or (distill.follow and not self._near):
            raise InputError(
                f"distil: reading {distill.reading}, swapped {distill.swapped} and follow "
                f"{distill.follow} need instructions, found {len(texts)}, {len(self._near)} of "
                "them in scans of this task; name a task that has some, for example --read r2r"
            )
        known = min(student.config.vocab_size, teacher.config.vocab_size)
        if distill.swapped and distill.words[1] > known:
            raise InputError(
                f"distil: words go up to {distill.words[1]}, but the models know {known} word "
                "pieces; give --distill.words FIRST END within them"
            )
        self.distill, self.texts = distill, texts
        self._to_ends = replace(config, demonstrate="expert")
        # In a list, so that the teacher is neither trained, nor saved, nor put in train mode.
        self._teacher = [teacher.eval().requires_grad_(False)]
        seen = teacher_panoramas or panoramas
        self.remembered = remembered or Remembered(teacher, seen)
        self._glance = PanoramaEncoder(teacher, seen, cache=False)
        width, wide = student.config.hidden_size, teacher.config.hidden_size
        self.text_map = nn.Linear(width, wide, bias=False)
        self.panorama_map = nn.Linear(width, wide, bias=False)
        for linear in (self.text_map, self.panorama_map):
            nn.init.eye_(linear.weight) if width == wide else nn.init.normal_(
                linear.weight, std=width**-0.5
            )

    @property
    def teacher(self) -> DUET:
        """The frozen teacher."""
        return self._teacher[0]

    def _teaching(self) -> AbstractContextManager[object]:
        """Move the teacher to the student's device; return the precision that it computes in."""
        device = next(self.policy.parameters()).device
        if next(self.teacher.parameters()).device != device:
            self.teacher.to(device)
        wanted = self.distill.teacher_precision
        if wanted == "run":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16, enabled=wanted == "bf16")

    @torch.no_grad()
    def explain(self, batch: Recorded, groups: list[Bucket]) -> tuple[PackedOutput, TextMemory]:
        """Run the teacher over the student's rows."""
        with self._teaching():
            text = self.remembered.text(batch.episodes)
            tokens, mask, means = self.remembered.looks(batch.rows.node, batch.rows.pose)
            things = None
            if self.distill.objects:
                things = object_mask(self.remembered.panoramas, batch.rows.node, tokens.device)
            return navigate_packed(self.teacher, text, groups, tokens, mask, means, things), text

    def corrected(self, batch: Recorded, demonstrations: int, draws: Floats) -> Recorded:
        """Let some labels of explorations become the teacher's (corrections).

        Which of them follows from `draws` alone.
        """
        if not self.distill.corrections or demonstrations == len(batch.episodes):
            return batch
        batch = self.prepare(batch)
        assert batch.taught is not None
        lots = np.random.default_rng([_CORRECTIONS, *draws.view(np.uint64).ravel()[:4].tolist()])
        chosen = lots.random(len(batch.rows)) < self.distill.corrections
        chosen &= batch.rows.agent >= demonstrations
        best = batch.taught.argmax(1).numpy()
        return replace(batch, labels=np.where(chosen, best, batch.labels))

    def warm(self) -> None:
        """Write what the teacher's folder on disk lacks (nothing where there is none)."""
        with self._teaching():
            self.remembered.fill()

    def reading_time(self, episodes: Sequence[Episode], some: int) -> float:
        """Return the seconds that `warm` would take for `episodes`, measured on some of it."""
        with self._teaching():
            return self.remembered.filling_time(episodes, some)

    @torch.no_grad()
    def prepare(self, batch: Recorded, groups: list[Bucket] | None = None) -> Recorded:
        """Add the teacher's decisions to a batch, so that they are computed once."""
        wanted = self.distill.fuse or self.distill.objects or self.distill.corrections
        if not self.distill.weight or not wanted or batch.taught is not None:
            return batch
        taught, _ = self.explain(batch, groups or self.groups(batch))
        logits = torch.full(batch.rows.nodes.shape, IMPOSSIBLE)
        for index, fused in taught.fused():
            logits[torch.from_numpy(index), : fused.shape[1]] = fused.to("cpu", torch.float32)
        return replace(batch, taught=logits, taught_objects=_gathered(taught, len(batch.rows)))

    def drawn_texts(self, seed: int, iteration: int) -> tuple[Episode, ...]:
        """Return this process's share of the instructions that an iteration reads."""
        if not self.distill.reading:
            return ()
        return _drawn(self.texts, self.distill.reading, [seed, _TEXTS, iteration])

    def swapped_texts(self, seed: int, iteration: int) -> tuple[Episode, ...]:
        """Return this process's share of the instructions whose words are swapped."""
        if not self.distill.swapped:
            return ()
        where, told = [seed, _SWAPPED, iteration], self.distill
        drawn = _drawn(self.texts, told.swapped, where)
        places = range(processes.number(), told.swapped, processes.count())
        return tuple(
            with_other_words(text, np.random.default_rng([*where, place]), told.swap, told.words)
            for text, place in zip(drawn, places, strict=True)
        )

    def followed(self, seed: int, iteration: int) -> Recorded | None:
        """Return this process's share of the walks that an iteration learns from the teacher."""
        if not self.distill.follow:
            return None
        episodes = _drawn(self._near, self.distill.follow, [seed, _FOLLOWED, iteration])
        rows, labels, _ = record(self.panoramas, episodes, None, config=self._to_ends)
        batch = joined(episodes, [(rows, labels, 1.0, len(episodes))])
        return replace(batch, unlabelled=True)

    def reading(self, episodes: Sequence[Episode], *, normalise: bool, kept: bool = True) -> Tensor:
        """Return the squared error of the words of instructions, mean over all processes' words.

        With `kept` the teacher's are remembered, by the instructions' names.
        """
        device = next(self.policy.parameters()).device
        ids, mask = (t.to(device) for t in token_batch(episodes))
        mine = self.policy.encode_text(ids, mask).embeds[mask]
        usual = processes.mean(float(len(mine)))
        weight = mine.new_full((len(mine),), 1.0 / usual, dtype=torch.float32)
        theirs = (self.read(episodes) if kept else self._read_once(ids, mask))[mask]
        return squared_error(self.text_map(mine), theirs, weight, normalise=normalise)

    @torch.no_grad()
    def read(self, episodes: Sequence[Episode]) -> Tensor:
        """Return the teacher's words of B instructions, [B, L, E]."""
        with self._teaching():
            return self.remembered.words(episodes)[0]

    @torch.no_grad()
    def _read_once(self, ids: Tensor, mask: Tensor) -> Tensor:
        with self._teaching():
            words: Tensor = self.teacher.encode_text(ids, mask).embeds
            return words

    @torch.no_grad()
    def remember(self, node: Ints, pose: Ints) -> Tensor:
        """Return the teacher's panorama means at R (viewpoint, pose) pairs, [R, E], kept."""
        with self._teaching():
            return self.remembered.means(node, pose)

    @torch.no_grad()
    def look(self, node: Ints, pose: Ints) -> Tensor:
        """Return the teacher's panorama tokens at R (viewpoint, pose) pairs, [R, T, E]."""
        with self._teaching():
            return self._glance(node, pose)[0]

    def forward(self, batch: Recorded) -> TaskOutput:
        """Return action loss + weight * (L_txt + L_pano + L_fuse), eq. (9)."""
        output, text, _ = self.run(batch)
        if batch.unlabelled:
            terms = self._terms(batch, output, text)
            taught = self.distill.weight * torch.stack(list(terms.values())).sum()
            return TaskOutput(taught, {"followed": float(taught.detach())})
        own = self.imitate(output, batch)
        if not self.distill.weight:
            return own
        terms = self._terms(batch, output, text)
        named = {name: float(term.detach()) for name, term in terms.items()}
        total = torch.stack(list(terms.values())).sum()
        return TaskOutput(own.loss + self.distill.weight * total, own.metrics | named)

    def _terms(self, batch: Recorded, output: PackedOutput, text: TextMemory) -> dict[str, Tensor]:
        device = output.panorama_mean.device
        share = torch.from_numpy(batch.episode_share).to(device, torch.float32)
        each_row = torch.from_numpy(batch.row_share).to(device, torch.float32)
        terms = {}
        if self.distill.text:
            words = text.mask
            weight = (share / words.sum(1))[:, None].expand(words.shape)[words]
            terms["text"] = squared_error(
                self.text_map(text.embeds[words]),
                self.read(batch.episodes)[words],
                weight,
                normalise=self.distill.normalise,
            )
        if batch.read:
            terms["read"] = self.reading(batch.read, normalise=self.distill.normalise)
        if batch.swapped:
            terms["swapped"] = self.reading(
                batch.swapped, normalise=self.distill.normalise, kept=False
            )
        if self.distill.panorama:
            terms["panorama"] = squared_error(
                self.panorama_map(output.panorama_mean),
                self.remember(batch.rows.node, batch.rows.pose),
                each_row,
                normalise=self.distill.normalise,
            )
        if self.distill.fuse or self.distill.objects:
            groups = [bucket for bucket, _ in output.parts]
            batch = self.prepare(batch, groups)
        if self.distill.fuse:
            taught = batch.taught
            assert taught is not None
            parts, tau = [], self.distill.tau(self.done)
            for index, fused in output.fused():
                rows = torch.from_numpy(index)
                theirs = taught[rows, : fused.shape[1]].to(device)
                parts.append(
                    (soft_cross_entropy(fused, theirs, tau) * each_row[rows.to(device)]).sum()
                )
            terms["fuse"] = torch.stack(parts).sum()
        if self.distill.objects:
            terms["objects"] = object_cross_entropy(output, batch.taught_objects, each_row)
        return terms


def _drawn(texts: Sequence[Episode], count: int, seed: list[int]) -> tuple[Episode, ...]:
    """Return this process's share of `count` texts, drawn with replacement."""
    if count % processes.count():
        raise InputError(
            f"distil: {count} instructions an iteration do not divide among {processes.count()} "
            "processes; make --distill.reading, swapped and follow multiples of that"
        )
    drawn = np.random.default_rng(seed).integers(len(texts), size=count)
    return tuple(texts[i] for i in drawn[processes.number() :: processes.count()])


def with_other_words(
    text: Episode, rng: np.random.Generator, share: float, words: tuple[int, int]
) -> Episode:
    """Return an instruction with a share of its words swapped for any word pieces in a range.

    Its first and last ([CLS], [SEP]) stay.
    """
    ids = np.array(text.token_ids or (), np.int64)
    swapped = rng.random(len(ids)) < share
    swapped[:1] = swapped[-1:] = False
    other = rng.integers(*words, size=len(ids))
    return replace(text, token_ids=tuple(np.where(swapped, other, ids).tolist()))


def object_cross_entropy(output: PackedOutput, taught: Tensor | None, weight: Tensor) -> Tensor:
    """Return the weighted soft cross entropy of object logits, over rows that show objects.

    `taught` [R, 1+T] are the teacher's (-inf where no object stands), `weight` [R]. Zero in a world
    without objects.
    """
    parts = [weight.new_zeros(())]
    for index, mine in output.objects():
        assert taught is not None
        theirs = taught[torch.from_numpy(index), : mine.shape[1]].to(mine.device)
        shown = (theirs > IMPOSSIBLE).any(1)
        share = weight[torch.from_numpy(index).to(weight.device)][shown]
        parts.append((soft_cross_entropy(mine[shown], theirs[shown]) * share).sum())
    return torch.stack(parts).sum()


def _gathered(output: PackedOutput, count: int) -> Tensor | None:
    """Put object logits of all rows together, [R, 1+T] on the CPU; None where there are none."""
    logits: Tensor | None = None
    for index, found in output.objects():
        if logits is None:
            logits = torch.full((count, found.shape[1]), IMPOSSIBLE)
        logits[torch.from_numpy(index)] = found.to("cpu", torch.float32)
    return logits
