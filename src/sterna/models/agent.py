"""A DUET policy that stands somewhere: text read once, map kept, one decision at a time.

Legend: B agents, R agents still walking, T panorama tokens, M map slots, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sterna.data.episodes import Episode
from sterna.envs.graph_env import OBJECT, Panoramas
from sterna.errors import InputError
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.layers import key_bias
from sterna.models.panorama import PanoramaOutput
from sterna.models.text import TextMemory
from sterna.models.topomap import MapRows, TopoMap
from sterna.world.geometry import VIEWS, Ints


class Policy(Protocol):
    """Anything that can be walked: it reads instructions, then scores the slots of a map."""

    def reset(self, episodes: Sequence[Episode], topomap: TopoMap) -> None:
        """Begin new episodes; agent i of the map walks episode i."""

    def act(self, rows: MapRows) -> Tensor:
        """Return logits [R, 1+M] over STOP and the map's nodes, -inf where not to be chosen."""


@runtime_checkable
class Grounding(Protocol):
    """A policy that also names objects: `objects` [R] ids of its last decision, -1 for none."""

    objects: Ints | None


def token_batch(episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
    """Return padded word ids [B, L] (0 pads) and their mask; `InputError` if untokenised."""
    for episode in episodes:
        if not episode.token_ids:
            raise InputError(
                f"episode {episode.instr_id}: no token ids; tokenise the instructions first "
                "(read annotations with a tokenizer, or give DUET's *_enc.json files)"
            )
    width = max(len(e.token_ids or ()) for e in episodes)
    ids = np.zeros((len(episodes), width), np.int64)
    for row, episode in zip(ids, episodes, strict=True):
        row[: len(episode.token_ids or ())] = episode.token_ids or ()
    lengths = np.array([len(e.token_ids or ()) for e in episodes])
    mask = np.arange(width) < lengths[:, None]
    return torch.from_numpy(ids), torch.from_numpy(mask)


class TextReader:
    """Reads instructions with a model; the lowest `frozen` language layers only once each.

    The output of the word embeddings and of frozen layers does not change while a policy learns
    (or, for a teacher, at all), so it is kept per instruction. `frozen` counts language layers; 0
    keeps nothing. Frozen layers run in eval mode, without gradient. What is kept does not depend
    on the order of reading, so that a resumed run sees the same bits.
    """

    def __init__(self, model: DUET, frozen: int = 0) -> None:
        """Wrap a model; `InputError` if it has fewer layers than `frozen`."""
        if not 0 <= frozen <= model.config.language_layers:
            raise InputError(
                f"frozen language layers: 0 to {model.config.language_layers}, found {frozen}"
            )
        self.model, self.frozen = model, frozen
        self._kept: dict[str, Tensor] = {}

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that are frozen."""
        if self.frozen:
            yield from self.model.embeddings.parameters()
            for layer in self.model.lang_encoder.layer[: self.frozen]:
                yield from layer.parameters()

    def __call__(self, episodes: Sequence[Episode]) -> TextMemory:
        """Return what B instructions leave for navigation."""
        device = next(self.model.parameters()).device
        if not self.frozen:
            ids, mask = token_batch(episodes)
            return self.model.encode_text(ids.to(device), mask.to(device))
        self._read_new([e for e in episodes if e.instr_id not in self._kept], device)
        rows = [self._kept[e.instr_id] for e in episodes]
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(x.shape[1], device=device) < lengths[:, None]
        for layer in self.model.lang_encoder.layer[self.frozen :]:
            x, _ = layer(x, key_bias(mask))
        return TextMemory(
            embeds=x,
            mask=mask,
            local=self.model.local_encoder.encoder.text_memory(x),
            global_=self.model.global_encoder.encoder.text_memory(x),
        )

    @torch.no_grad()
    def _read_new(self, episodes: Sequence[Episode], device: torch.device) -> None:
        if not episodes:
            return
        model, training = self.model, self.model.training
        model.eval()
        for episode in episodes:  # each alone, so that no bit depends on the company it is read in
            ids, mask = (t.to(device) for t in token_batch([episode]))
            x = model.embeddings(ids)
            for layer in model.lang_encoder.layer[: self.frozen]:
                x, _ = layer(x, key_bias(mask))
            self._kept[episode.instr_id] = x[0].to("cpu", torch.float32, copy=True)
        model.train(training)


def look(
    model: DUET, panoramas: Panoramas, table: Tensor, node: Ints, pose: Ints
) -> PanoramaOutput:
    """Encode what is seen at nodes [R] with poses [R]: views, and objects where the world has them.

    `table` [views, F] holds the world's view features, on any device.
    """
    device = next(model.parameters()).device
    seen = panoramas.observe(node, pose, features=False)
    features = table[torch.from_numpy(seen.token_rows).to(table.device)].to(device, torch.float32)
    objects = None
    if seen.object_rows is not None:
        objects = torch.from_numpy(panoramas.object_features[seen.object_rows]).to(device)
    output: PanoramaOutput = model.encode_panorama(
        features,
        torch.from_numpy(seen.locations).to(device),
        torch.from_numpy(seen.nav_types).to(device),
        torch.from_numpy(seen.mask).to(device),
        objects,
    )
    return output


def check_objects(model: DUET, panoramas: Panoramas) -> None:
    """Raise `InputError` unless a model can read the objects that a world shows."""
    shown, read = panoramas.object_size, model.config.object_size
    if shown is not None and shown != read:
        raise InputError(
            f"the world shows objects of width {shown}, the policy reads "
            f"{'none' if read is None else read}; set model.object_size, or lay the world out bare"
        )


def object_mask(panoramas: Panoramas, node: Ints, device: torch.device) -> Tensor | None:
    """Mark the objects among STOP and the panorama tokens at nodes [R], [R, 1+T].

    None in a world without objects.
    """
    if panoramas.object_size is None:
        return None
    is_object = panoramas.nav_types[node, : int(panoramas.lengths[node].max())] == OBJECT
    return torch.from_numpy(np.pad(is_object, [(0, 0), (1, 0)])).to(device)


class PanoramaEncoder:
    """Runs a model's panorama encoder over (node, pose) pairs, each distinct pair once.

    The encoding depends on nothing else, so that at evaluation (weights fixed) `cache=True` keeps
    what was computed. Holds at most `limit` pairs.
    """

    def __init__(self, model: DUET, panoramas: Panoramas, *, cache: bool, limit: int = 60_000):
        """Wrap a model; its weights must not change while a cached encoder is in use."""
        check_objects(model, panoramas)
        self.model, self.panoramas, self.cache, self.limit = model, panoramas, cache, limit
        self.table = torch.from_numpy(panoramas.features)
        self.width = int(panoramas.lengths.max())
        self._place = np.full((len(panoramas.atlas), VIEWS), -1, np.int64)
        self._tokens: Tensor | None = None
        self._means: Tensor | None = None
        self._used = 0

    def _encode(self, node: Ints, pose: Ints) -> tuple[Tensor, Tensor]:
        output = look(self.model, self.panoramas, self.table, node, pose)
        return output.embeds, output.mean

    def _store(self, node: Ints, pose: Ints) -> None:
        embeds, means = self._encode(node, pose)
        needed = self._used + len(node)
        if self._tokens is None or self._means is None or needed > len(self._tokens):
            room = max(needed, 2 * self._used, 1024)
            tokens = embeds.new_zeros(room, self.width, embeds.shape[-1])
            spare = means.new_zeros(room, means.shape[-1])
            if self._tokens is not None and self._means is not None:
                tokens[: self._used] = self._tokens[: self._used]
                spare[: self._used] = self._means[: self._used]
            self._tokens, self._means = tokens, spare
        self._tokens[self._used : needed, : embeds.shape[1]] = embeds
        self._means[self._used : needed] = means
        self._place[node, pose] = np.arange(self._used, needed)
        self._used = needed

    def __call__(self, node: Ints, pose: Ints) -> tuple[Tensor, Tensor, Tensor]:
        """Return token outputs [R, T, D], their mask [R, T] and their mean [R, D]."""
        width = int(self.panoramas.lengths[node].max())
        device = next(self.model.parameters()).device
        mask = torch.from_numpy(self.panoramas.mask[node, :width]).to(device)
        if not self.cache:
            embeds, means = self._encode(node, pose)
            return embeds, mask, means
        if self._used > self.limit:
            self._used, self._place[:] = 0, -1
        missing = np.flatnonzero(self._place[node, pose] < 0)
        if len(missing):
            pairs = np.unique(node[missing] * VIEWS + pose[missing])
            self._store(pairs // VIEWS, pairs % VIEWS)
        place = torch.from_numpy(self._place[node, pose]).to(device)
        assert self._tokens is not None and self._means is not None
        return self._tokens[place, :width], mask, self._means[place]


def to_navigate(rows: MapRows, device: torch.device) -> dict[str, Any]:
    """Return the map part of `DUET.navigate`'s arguments for rows, on a device."""

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    degree = int((rows.candidates > 0).sum(1).max(initial=1))
    return {
        "start_and_candidate_positions": tensor(rows.local_positions[:, : 1 + degree]),
        "candidate_nodes": tensor(rows.candidates[:, :degree]),
        "node_steps": tensor(rows.steps),
        "node_positions": tensor(rows.positions),
        "node_distances": tensor(rows.distances),
        "node_mask": tensor(rows.mask),
        "node_visited": tensor(rows.visited),
    }


class Agent:
    """A batch of DUET agents; the `Policy` that evaluation and sampled roll-outs walk.

    In a world with objects `objects` [R] holds the best object of each row of the last decision
    (-1 where none is seen); None in a world without.
    """

    def __init__(self, model: DUET, panoramas: Panoramas, *, cache: bool = True) -> None:
        """Wrap a model for walking; `cache` as in `PanoramaEncoder`."""
        self.model = model
        self.encoder = PanoramaEncoder(model, panoramas, cache=cache)
        self.device = next(model.parameters()).device
        self.objects: Ints | None = None

    def reset(
        self, episodes: Sequence[Episode], topomap: TopoMap, text: TextMemory | None = None
    ) -> None:
        """Read the instructions (or take `text`, read already) and forget the last walk."""
        if text is None:
            ids, mask = token_batch(episodes)
            text = self.model.encode_text(ids.to(self.device), mask.to(self.device))
        self.text, self.map = text, topomap
        width = self.model.config.hidden_size
        self._sums = torch.zeros(len(episodes), 0, width, device=self.device)
        self._counts = torch.zeros(len(episodes), 0, 1, device=self.device)

    def _remember(self, rows: MapRows, tokens: Tensor, means: Tensor) -> Tensor:
        """Update node features as DUET's map does; returns those of the rows [R, 1+M, D].

        A visited node holds its panorama's mean, an unvisited one the running mean of the candidate
        tokens that pointed at it.
        """
        room = self.map.nodes.shape[1] + 1
        if room > self._sums.shape[1]:
            extra = room - self._sums.shape[1]
            self._sums = torch.nn.functional.pad(self._sums, (0, 0, 0, extra))
            self._counts = torch.nn.functional.pad(self._counts, (0, 0, 0, extra))
        agents = torch.from_numpy(rows.agent).to(self.device)
        here = torch.from_numpy(self.map.slots(rows.agent, rows.node) + 1).to(self.device)
        self._sums[agents, here] = means.to(self._sums.dtype)
        self._counts[agents, here] = 1.0
        fresh = (rows.candidates > 0) & ~np.take_along_axis(rows.visited, rows.candidates, 1)
        row, column = (torch.from_numpy(i).to(self.device) for i in np.nonzero(fresh))
        slots = torch.from_numpy(rows.candidates[fresh]).to(self.device)
        self._sums[agents[row], slots] += tokens[row, column].to(self._sums.dtype)
        self._counts[agents[row], slots] += 1.0
        width = rows.nodes.shape[1]
        return self._sums[agents, :width] / self._counts[agents, :width].clamp(min=1.0)

    def navigate(self, rows: MapRows) -> NavigationOutput:
        """Run one decision of the walking agents; the full output of the model."""
        return self._decide(rows, self._observe(rows))

    def _observe(self, rows: MapRows) -> dict[str, Any]:
        """Return what `DUET.navigate` reads: text, panorama and map, which now remembers it."""
        tokens, mask, means = self.encoder(rows.node, rows.pose)
        return {
            "text": self.text.rows(torch.from_numpy(rows.agent).to(self.device)),
            "panorama": tokens,
            "panorama_mask": mask,
            "node_features": self._remember(rows, tokens, means),
            "object_mask": object_mask(self.encoder.panoramas, rows.node, self.device),
            **to_navigate(rows, self.device),
        }

    def _decide(
        self, rows: MapRows, seen: dict[str, Any], *, details: bool = False
    ) -> NavigationOutput:
        """Run the model on what `_observe` returned and keep the best objects."""
        output = self.model.navigate(**seen, details=details, decide=not details)
        if output.object_logits is not None:
            self.objects = self._best_objects(rows, output.object_logits)
        return output

    def _best_objects(self, rows: MapRows, logits: Tensor) -> Ints:
        """Return the id of each row's best object, the first one on ties, -1 without objects."""
        panoramas = self.encoder.panoramas
        best = logits.detach().float().cpu().numpy().argmax(1) - 1
        rank = np.maximum(best - panoramas.view_lengths[rows.node], 0)
        found: Ints = panoramas.object_ids[rows.node, rank]
        return found

    def act(self, rows: MapRows) -> Tensor:
        """Return the fused logits [R, 1+M]; no gradient is kept."""
        with torch.no_grad():
            return self.navigate(rows).fused
