"""A routed DUET as graphs for one agent: words once an episode, cross-modal blocks each decision.

The panorama is `graphs.PanoramaGraph`, which always runs. Keys and values of the words are made
for all blocks when the words are read: once an episode, where blocks may run at every step; so is
what the router keeps of them. What it sees of the last move is read off the map
(`adapters.duet.recent_moves`). As in `graphs.StepGraph`, the last block of an encoder computes only
the tokens that a decision reads.

Legend: as in `graphs`; U units of a phase, G numbers that the router keeps of the words.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sterna.actdistill.adapters.duet import RECENT, DuetStack
from sterna.actdistill.router import PhaseRouter, Router
from sterna.edge.graphs import attend_row
from sterna.edge.routed import Trace, Values
from sterna.models.cross import CrossLayer
from sterna.models.duet import fuse


class _Routed(nn.Module):
    def __init__(self, stack: DuetStack, router: Router, *, flat: bool = False) -> None:
        """Take a policy; `flat` is the way of export."""
        super().__init__()
        self.stack, self.router, self.flat = stack.eval(), router.eval(), flat
        self.trace: Trace | None = None

    def _begin(self, threshold: Tensor) -> Trace:
        self.trace = Trace(self.stack, self.router, threshold, flat=self.flat)
        return self.trace

    def _phase(self, phase: int) -> PhaseRouter:
        return cast(PhaseRouter, self.router.phases[phase])


class RoutedTextGraph(_Routed):
    """An instruction, read with the language blocks that its words ask for."""

    def forward(self, threshold: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        """Map ids [L] to (heard [G], memory [2, X, 2, H, L, E], gates bool [U])."""
        model, trace, router = self.stack.model, self._begin(threshold), self._phase(0)
        x = model.embeddings(ids[None])
        trace.open(0, router.of_row(None, router.heard(x[0]), torch.zeros(RECENT)))
        free = torch.zeros(1, 1, 1, 1)
        for unit in self.stack.of_phase(0):
            (block,) = self.stack.layers(unit)

            def run(before: Values, block: nn.Module = block) -> Values:
                return (block(before[0], free)[0],)

            (x,) = trace.step(unit, (x,), run)
        both = model.local_encoder.encoder, model.global_encoder.encoder
        memory = [torch.stack([torch.cat(kv) for kv in stack.text_memory(x)]) for stack in both]
        heard = self._phase(1).heard(x[0])
        return heard, torch.stack(memory), trace.gates(), *trace.between.values()


class RoutedStepGraph(_Routed):
    """One decision with the cross-modal blocks that it needs."""

    def forward(
        self,
        threshold: Tensor,
        heard: Tensor,
        memory: Tensor,
        panorama: Tensor,
        local_positions: Tensor,
        candidates: Tensor,
        near: Tensor,
        features: Tensor,
        steps: Tensor,
        positions: Tensor,
        distances: Tensor,
        visited: Tensor,
        choices: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return logits [K], with objects those of `near` [N], and gates bool [U].

        Inputs as `StepGraph` has them, with what the router `heard` [G].
        """
        model, trace = self.stack.model, self._begin(threshold)
        near_by, far = model.local_encoder, model.global_encoder
        x = near_by.inputs(panorama[None], local_positions[None])
        y = far.inputs(features[None], steps[None], positions[None])[0]
        move = last_move(steps, positions, visited)
        trace.open(1, self._phase(1).of_row(x[0], heard, move))
        bias = None
        if far.sprel_linear is not None:
            bias = far.bias(torch.ones(1, 1, dtype=torch.bool), distances[None])[0]
        words = torch.split(memory.flatten(0, 3), memory.shape[3])
        half, place = len(words) // 2, {"local": 0, "global": 0}
        now, biases = {"local": x[0], "global": y}, {"local": None, "global": bias}
        read = {"local": near, "global": choices}
        for unit in self.stack.of_phase(1):
            stream = self.stack.units[unit].stream
            first = 2 * place[stream] + half * (stream == "global")
            context, own = (words[first], words[first + 1]), biases[stream]
            layer = cast(CrossLayer, self.stack.layers(unit)[0])
            place[stream] += 1
            keep = read[stream] if place[stream] == half // 2 else None

            def run(
                before: Values,
                layer: CrossLayer = layer,
                context: tuple[Tensor, Tensor] = context,
                own: Tensor | None = own,
                keep: Tensor | None = keep,
            ) -> Values:
                z = attend_row(layer.visual_attention, before[0], context)
                z = attend_row(layer.visn_self_att, z, None, own, keep)
                z = layer.visn_output(layer.visn_inter(z), z)
                # Tokens that nothing reads stay as they were.
                return (z if keep is None else before[0].index_copy(0, keep, z),)

            (now[stream],) = trace.step(unit, (now[stream],), run)
        spots, places = now["local"].index_select(0, near), now["global"].index_select(0, choices)
        weight = model.sap_fuse_linear(torch.cat([places[:1], spots[:1]], -1)).sigmoid()
        slots = model.local_sap_head(spots[: 1 + candidates.shape[0]]) * (1 - weight)
        bare = torch.zeros_like(features[None, :, 0])
        local = fuse(bare, slots[None], candidates[None], visited[None])[0]
        logits = model.global_sap_head(places) * weight + local.index_select(0, choices)
        things = () if model.og_head is None else (model.og_head(spots),)
        return (logits, *things, trace.gates(), *trace.between.values())


def last_move(steps: Tensor, positions: Tensor, visited: Tensor) -> Tensor:
    """Return what the last decision did, [8], from a map (STOP first); see `recent_moves`.

    The node of the last visit has the largest of `steps`; the decision before was at the node whose
    step is one less.
    """
    step = steps.max() - 1
    last = (visited & (steps == step)).float()
    return torch.cat([last @ positions, (step.float() / 15.0)[None]])
