"""DUET and its kin as a stack: language blocks once an episode, cross-modal blocks each decision.

Phase 0 are the language blocks, one row an episode; its router sees the words alone. Phase 1 are
the blocks of the local (panorama) and the global (map) encoder, one row a decision; its router
sees the words as read, the panorama's tokens, and where the last decision led. Word embeddings and
panorama blocks always run, and so does the first block of each encoder. Actions are discrete: a
unit of the local encoder points at STOP or a candidate, one of the global encoder at STOP or an
open node of the map; words alone act on nothing.

Legend: B episodes, R rows (decisions), L words, V panorama tokens, M map nodes, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sterna.actdistill.losses import IGNORED
from sterna.actdistill.stack import Pointer, RouterInput, Stack, Tokens, Unit, register
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.models.agent import look, object_mask, to_navigate, token_batch
from sterna.models.attention import gather_rows
from sterna.models.cross import CrossLayer
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.layers import KeyValue, key_bias
from sterna.models.ragged import Ragged
from sterna.models.topomap import MapRows
from sterna.train.grounding import grounding_loss, object_targets
from sterna.train.imitation import Recorded, action_loss, local_labels
from sterna.train.packed import Bucket, PackedOutput, buckets
from sterna.world.geometry import Ints

RECENT = 8
"""Where the last decision led: position of the place it was made at, and how many were made."""
_TEXT, _LOCAL, _GLOBAL = "text", "local", "global"


@dataclass(frozen=True)
class DuetBatch:
    """Recorded decisions and the world that they were made in; `table` are its view features."""

    recorded: Recorded
    panoramas: Panoramas
    table: Tensor

    def order(self) -> Ints:
        """Return the order in which the decisions run: by size of the map."""
        return np.argsort(self.recorded.rows.mask.sum(1), kind="stable")


@dataclass(frozen=True)
class DuetState:
    """What runs through a DUET: words of episodes, and tokens of decisions once there are any."""

    words: Tensor
    word_mask: Tensor
    local: Tensor | None = None
    nodes: Tensor | None = None
    agents: Tensor | None = None
    """Which episode each decision belongs to, int64 [R]."""
    seen: dict[str, Any] = field(default_factory=dict)
    """What does not change from unit to unit: masks, biases, candidates, `recent`."""
    memory: dict[int, KeyValue] = field(default_factory=dict)
    """Keys and values of the words for each unit that was run; shared by all states that follow."""
    bucket: Bucket | None = None
    means: Tensor | None = None


class DuetStack(Stack):
    """A DUET cut into its blocks; see the module."""

    kind = Pointer()
    recent = RECENT

    def __init__(self, model: DUET, *, branches: float = 0.0, grounding: float = 1.0) -> None:
        """Wrap a model; `branches` and `grounding` are those of its imitation loss."""
        super().__init__()
        self.model, self.branches, self.grounding = model, branches, grounding
        self.width = model.config.hidden_size
        self.units, self._blocks = _units(model)

    # What runs.

    def prepare(self, batch: DuetBatch) -> DuetState:
        """Embed the words, look at the panoramas, put the maps together."""
        rows, order = batch.recorded.rows, batch.order()
        state = self.reading(batch.recorded.episodes)
        panorama = look(self.model, batch.panoramas, batch.table, rows.node, rows.pose)
        (bucket,) = buckets(rows, panorama.embeds.shape[1], 1)
        device, width = panorama.embeds.device, panorama.embeds.shape[-1]
        pool = torch.cat([panorama.embeds.reshape(-1, width), panorama.mean]).float()
        features = functional.embedding_bag(
            bucket.source.to(device),
            pool,
            bucket.offsets.to(device),
            mode="sum",
            per_sample_weights=bucket.weight.to(device),
        ).view(len(bucket.index), -1, width)
        index = torch.from_numpy(order).to(device)
        things = object_mask(batch.panoramas, rows.node, device)
        seen = {
            "panorama": panorama.embeds.index_select(0, index),
            "panorama_mask": panorama.mask.index_select(0, index),
            "node_features": features,
            "object_mask": None if things is None else things.index_select(0, index),
            **to_navigate(bucket.rows, device),
        }
        agents = torch.from_numpy(bucket.rows.agent).to(device)
        state = self.deciding(state, agents, seen, bucket.rows)
        return replace(state, bucket=bucket, means=panorama.mean)

    def fresh(self, state: DuetState) -> DuetState:
        """Return a state whose words have no keys and values yet."""
        return replace(state, memory={})

    def reading(self, episodes: Sequence[Any]) -> DuetState:
        """Return the state of episodes before the first language block."""
        device = next(self.model.parameters()).device
        ids, mask = (t.to(device) for t in token_batch(episodes))
        return DuetState(words=self.model.embeddings(ids), word_mask=mask)

    def deciding(
        self, state: DuetState, agents: Tensor, seen: dict[str, Any], rows: MapRows
    ) -> DuetState:
        """Return the state before the first cross-modal block.

        `seen` are the arguments of `DUET.navigate` but for the text; `agents` [R] as in the state.
        """
        near, far = self.model.local_encoder, self.model.global_encoder
        mask = near.mask(seen["panorama_mask"])
        recent = torch.from_numpy(recent_moves(rows)).to(mask.device)
        fixed = {
            "local_mask": mask,
            "local_bias": key_bias(mask),
            "node_bias": far.bias(seen["node_mask"], seen["node_distances"]),
            "word_bias": key_bias(state.word_mask),
            "recent": recent,
        }
        kept = ("candidate_nodes", "node_mask", "node_visited", "object_mask")
        return replace(
            state,
            local=near.inputs(seen["panorama"], seen["start_and_candidate_positions"]),
            nodes=far.inputs(seen["node_features"], seen["node_steps"], seen["node_positions"]),
            agents=agents,
            seen=fixed | {name: seen[name] for name in kept},
        )

    def run(self, unit: int, state: DuetState) -> DuetState:
        """Run a block; keys and values of the words are made when a block first needs them."""
        block, stream = self._blocks[unit], self.units[unit].stream
        (x,) = self.read(unit, state)
        if stream == _TEXT:
            run = partial(block, bias=key_bias(state.word_mask))
            return self.write(unit, state, (_unpadded(run, x, state.word_mask),))
        if unit not in state.memory:
            state.memory[unit] = block.context_memory(state.words)
        agents = state.agents
        assert agents is not None
        keys, values = (gather_rows(part, agents) for part in state.memory[unit])
        text_bias = state.seen["word_bias"].index_select(0, agents)
        mask, bias = (state.seen[name] for name in _MASKS[stream])
        run = partial(block, bias=bias, text=(keys, values), text_bias=text_bias)
        return self.write(unit, state, (_unpadded(run, x, mask),))

    def read(self, unit: int, state: DuetState) -> tuple[Tensor, ...]:
        """Return words [B, L, D], local tokens [R, 1 + V, D] or map tokens [R, 1 + M, D]."""
        return (getattr(state, _FIELDS[self.units[unit].stream]),)

    def write(self, unit: int, state: DuetState, values: tuple[Tensor, ...]) -> DuetState:
        """Return the state with those replaced."""
        change: dict[str, Any] = {_FIELDS[self.units[unit].stream]: values[0]}
        return replace(state, **change)

    def select(self, unit: int, state: DuetState, rows: Tensor) -> DuetState:
        """Return some episodes (language blocks), or some decisions of all episodes."""
        if self.units[unit].stream == _TEXT:
            return replace(state, words=state.words[rows], word_mask=state.word_mask[rows])
        assert state.agents is not None
        stream = self.units[unit].stream
        name = _FIELDS[stream]
        seen = state.seen | {part: state.seen[part][rows] for part in _MASKS[stream]}
        change: dict[str, Any] = {name: getattr(state, name)[rows], "seen": seen}
        return replace(state, agents=state.agents[rows], **change)

    # What is looked at.

    def router_input(self, state: DuetState, phase: int) -> RouterInput:
        """Return words alone (phase 0); words as read, panorama and last move (phase 1)."""
        if phase == 0:
            count = len(state.words)
            return RouterInput(
                vision=state.words.new_zeros(count, 1, self.width),
                vision_mask=state.word_mask.new_zeros(count, 1),
                text=state.words,
                text_mask=state.word_mask,
                recent=state.words.new_zeros(count, RECENT),
            )
        assert state.local is not None and state.agents is not None
        return RouterInput(
            vision=state.local,
            vision_mask=state.seen["local_mask"],
            text=gather_rows(state.words, state.agents),
            text_mask=state.word_mask.index_select(0, state.agents),
            recent=state.seen["recent"],
        )

    def tokens(self, unit: int, state: DuetState) -> Tokens:
        """Return words, or the tokens of an encoder with what may be chosen of them."""
        (x,), seen = self.read(unit, state), state.seen
        stream = self.units[unit].stream
        if stream == _TEXT:
            return Tokens(x, state.word_mask)
        if stream == _GLOBAL:
            return Tokens(x, seen["node_mask"], seen["node_mask"] & ~seen["node_visited"])
        candidates = seen["candidate_nodes"] > 0
        options = torch.zeros_like(seen["local_mask"])
        options[:, 0] = True
        options[:, 1 : 1 + candidates.shape[1]] = candidates
        return Tokens(x, seen["local_mask"], options)

    # What comes out.

    def finish(self, state: DuetState) -> PackedOutput | NavigationOutput:
        """Return the scores; of a batch as `train.packed` gives them."""
        seen = state.seen
        assert state.local is not None and state.nodes is not None
        output = self.model.score(
            state.local,
            state.nodes,
            seen["candidate_nodes"],
            seen["node_mask"],
            seen["node_visited"],
            seen["object_mask"],
        )
        if state.bucket is None or state.means is None:
            return output
        return PackedOutput(state.means, [(state.bucket, output)])

    def loss(self, features: PackedOutput, batch: DuetBatch) -> Tensor:
        """Return DUET's imitation loss of the recorded decisions."""
        loss, _ = action_loss(features, batch.recorded, self.branches)
        if batch.panoramas.object_size is not None and self.grounding:
            targets = object_targets(batch.panoramas, batch.recorded.episodes, batch.recorded.rows)
            loss = loss + self.grounding * grounding_loss(features, batch.recorded, targets)
        return loss

    def act(self, state: DuetState, run: Callable[[DuetState], DuetState]) -> Tensor:
        """Return fused logits [R, 1 + M]; policies that walk are `RoutedAgent`s."""
        output = self.finish(run(state))
        if isinstance(output, PackedOutput):
            ((_, output),) = output.parts
        return output.fused

    def truth(self, unit: int, batch: DuetBatch, state: DuetState) -> Tensor:
        """Return the label as a token of the encoder, [R]; none where it cannot be chosen there."""
        assert state.bucket is not None
        labels = batch.recorded.labels[state.bucket.index]
        if self.units[unit].stream == _LOCAL:
            labels = local_labels(state.bucket.rows.candidates, labels)
        options = self.tokens(unit, state).options
        assert options is not None
        found = torch.from_numpy(labels).to(options.device)
        known = (found >= 0) & (found < options.shape[1])
        closed = ~options.gather(1, found.clamp(0, options.shape[1] - 1)[:, None])[:, 0]
        return found.masked_fill(~known | closed, IGNORED)

    def cost(self, unit: int, state: DuetState) -> float:
        """Return FLOPs on all rows; with keys and values of the words where they are not made."""
        config = self.model.config
        width, inner = config.hidden_size, config.ffn_size
        words = state.word_mask.shape[1]
        (x,) = self.read(unit, state)
        rows, tokens = x.shape[:2]
        among = 8 * width * width + 4 * tokens * width + 4 * width * inner
        if self.units[unit].stream == _TEXT:
            return float(rows * tokens * among)
        to_words = 4 * width * width + 4 * words * width
        memory = 0.0 if unit in state.memory else self.memory_cost(state)
        return rows * tokens * (among + to_words) + memory

    def memory_cost(self, state: DuetState) -> float:
        """Return the FLOPs of the words' keys and values for one block."""
        return 4.0 * state.word_mask.numel() * self.model.config.hidden_size**2

    # What it is made of.

    def layers(self, unit: int) -> Sequence[nn.Module]:
        """Return the block."""
        return (self._blocks[unit],)

    def towers(self) -> Sequence[nn.Module]:
        """Return the panorama encoder."""
        return (self.model.img_embeddings,)

    def owners(self, batch: DuetBatch, phase: int) -> Tensor | None:
        """Return the episode of each decision, in the order in which they run."""
        if phase == 0:
            return None
        return torch.from_numpy(batch.recorded.rows.agent[batch.order()])

    def pruned(self, keep: Sequence[int]) -> DuetStack:
        """Return a DUET whose encoders hold the kept blocks alone."""
        fixed = [n for n, unit in enumerate(self.units) if unit.fixed]
        if not set(fixed) <= set(keep):
            raise InputError("duet: the first block of every encoder stays; keep units 0 and on")
        model = copy.deepcopy(self.model)
        wanted = {self.units[n].name for n in keep}
        for stream, blocks in _encoders(model).items():
            for number in reversed(range(len(blocks))):
                if f"{stream} {number}" not in wanted:
                    del blocks[number]
        out = DuetStack(model, branches=self.branches, grounding=self.grounding)
        return out.train(self.training)

    def __deepcopy__(self, memo: dict[int, Any]) -> DuetStack:
        """Copy with blocks that are those of the copied model."""
        model = copy.deepcopy(self.model, memo)
        out = DuetStack(model, branches=self.branches, grounding=self.grounding)
        return out.train(self.training)


_FIELDS = {_TEXT: "words", _LOCAL: "local", _GLOBAL: "nodes"}
_MASKS = {_LOCAL: ("local_mask", "local_bias"), _GLOBAL: ("node_mask", "node_bias")}


def _unpadded(run: Callable[..., tuple[Tensor, Any]], x: Tensor, mask: Tensor) -> Tensor:
    """Return what a block makes of tokens x [R, Q, D]; where it learns, of real ones alone.

    Without gradients padding is computed, so that every bit is that of the plain pass.
    """
    if not torch.is_grad_enabled() or bool(mask.all()):
        return run(x)[0]
    ragged = Ragged(mask)
    return ragged.place(run(ragged.pick(x), ragged=ragged)[0])


def _encoders(model: DUET) -> dict[str, nn.ModuleList]:
    return {
        _TEXT: model.lang_encoder.layer,
        _LOCAL: model.local_encoder.encoder.x_layers,
        _GLOBAL: model.global_encoder.encoder.x_layers,
    }


def _units(model: DUET) -> tuple[tuple[Unit, ...], list[Any]]:
    """Return the units of a model and their blocks: words first, then both encoders by turns."""
    found = _encoders(model)
    places = [(_TEXT, n) for n in range(len(found[_TEXT]))]
    for depth in range(max(len(found[_LOCAL]), len(found[_GLOBAL]))):
        places += [(s, depth) for s in (_LOCAL, _GLOBAL) if depth < len(found[s])]
    units = tuple(
        Unit(
            name=f"{stream} {n}",
            phase=int(stream != _TEXT),
            stream=stream,
            acts=stream != _TEXT,
            fixed=n == 0,
        )
        for stream, n in places
    )
    blocks: list[CrossLayer | nn.Module] = [found[stream][n] for stream, n in places]
    return units, blocks


def recent_moves(rows: MapRows) -> np.ndarray:
    """Return what the last decision did, float32 [R, 8]; zeros at the first.

    The 7 position features of the place it was made at, as seen from here, and decisions / 15.
    """
    last = rows.visited & (rows.steps == rows.step[:, None])
    found = last.any(1)
    place = rows.positions[np.arange(len(rows)), last.argmax(1)]
    moves = np.where(found[:, None], place, 0.0)
    return np.concatenate([moves, rows.step[:, None] / 15.0], 1).astype(np.float32)


register(lambda model: isinstance(model, DUET), DuetStack)
