"""A navigator with the heads of its pre-training tasks, and one forward pass a task.

Source: DUET (Chen et al., CVPR 2022), section 3.4: masked words (mlm), masked views and objects
(mrc), single-step action (sap), object grounding (og). Parameter names are the published ones.

Legend: B walks, L words, T panoramas of all walks together, V panorama tokens, W of them views,
M map nodes, K classes, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.layers import key_bias
from sterna.models.linear import Linear
from sterna.models.panorama import PanoramaOutput
from sterna.models.text import TextMemory, init_weights
from sterna.models.weights import TASK_HEADS, require_same, strip_prefixes

TaskName = Literal["mlm", "mrc", "sap", "og"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
DECODER = "mlm_head.predictions.decoder.weight"
"""Stored by published checkpoints; it is the word table once more."""
_OUTSIDE_BERT = ("global_sap_head.", "local_sap_head.", "sap_fuse_linear.", "og_head.")


@dataclass(frozen=True, kw_only=True)
class WalkInputs:
    """Tensors of B walks that each end somewhere, and of the T panoramas seen on the way."""

    ids: Tensor
    """Word pieces, int64 [B, L] (masked already for mlm)."""
    words: Tensor
    """True for words, [B, L]."""
    features: Tensor
    """View features [T, W, F]; zero where masked for mrc."""
    locations: Tensor
    """Location features [T, V, 7]."""
    nav_types: Tensor
    """1 candidate, 0 other view, 2 object; int64 [T, V]."""
    panorama_mask: Tensor
    """True for tokens, [T, V]."""
    objects: Tensor | None
    """Object features [T, O, Fo], or None."""
    last: Tensor
    """Panorama at which each walk ends, int64 [B]."""
    source: Tensor
    """Entries of [all panorama tokens; all panorama means] that make the map's nodes, int64."""
    offsets: Tensor
    """First entry in `source` of each of the B (1 + M) map slots."""
    weight: Tensor
    """Weight of each entry: each slot is the mean of its entries."""
    places: Mapping[str, Tensor]
    """The map part of `DUET.navigate`'s arguments (`agent.to_navigate`), one row a walk."""


@dataclass(frozen=True)
class Layers:
    """What the layers of one module computed: `scores` [R, H, Q, Q], `hidden` [R, Q, D]."""

    mask: Tensor
    """Valid tokens [R, Q]."""
    scores: tuple[Tensor, ...]
    """Q K^T / sqrt(E) of the self-attentions, without mask or bias."""
    hidden: tuple[Tensor, ...]
    """Outputs of the layers."""


@dataclass(frozen=True)
class PretrainOutput:
    """What a task's forward pass leaves for its heads, and with details for distillation."""

    embeds: Tensor
    """mlm: words [B, L, D]; mrc, og, sap: local tokens [B, 1 + V, D]."""
    here: Tensor
    """Valid panorama tokens where the walks end, [B, V]."""
    nav_types: Tensor
    """Their kinds, [B, V]."""
    navigation: NavigationOutput | None = None
    """The decision (sap alone)."""
    embedding: Tensor | None = None
    """With details: output of the word embeddings, [B, L, D]."""
    words: Tensor | None = None
    """With details: the mask of `embedding`, [B, L]."""
    layers: Mapping[str, Layers] = field(default_factory=dict)
    """With details: language, panorama, local and, where the task runs it, global."""


class MaskedWordHead(nn.Module):
    """BERT's head of masked words: dense, GELU, LayerNorm, then the word table and a bias."""

    def __init__(self, width: int, vocabulary: int, eps: float) -> None:
        """Make the transform and the bias; the word table stays where it is."""
        super().__init__()
        transform = nn.Module()
        transform.dense = Linear(width, width)
        transform.LayerNorm = nn.LayerNorm(width, eps=eps)
        self.predictions = nn.Module()
        self.predictions.transform = transform
        self.predictions.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, x: Tensor, table: Tensor, narrow: Tensor | None = None) -> Tensor:
        """Score words [N, D] against the word table [vocabulary, E]: [N, vocabulary], float32.

        `narrow` [D, E] are the weights behind a table that is narrower than words.
        """
        transform, bias = self.predictions.transform, self.predictions.bias
        assert isinstance(transform, nn.Module) and isinstance(bias, Tensor)
        assert isinstance(transform.dense, nn.Module)
        assert isinstance(transform.LayerNorm, nn.Module)
        hidden = transform.LayerNorm(F.gelu(transform.dense(x)))
        with torch.autocast(x.device.type, enabled=False):
            hidden = hidden.to(table.dtype)
            return F.linear(hidden if narrow is None else hidden @ narrow, table, bias)


class ClassHead(nn.Module):
    """Linear - ReLU - LayerNorm - Linear(K): classes of a masked view or object."""

    def __init__(self, width: int, classes: int, eps: float) -> None:
        """Score `classes` classes."""
        super().__init__()
        self.net = nn.Sequential(
            Linear(width, width), nn.ReLU(), nn.LayerNorm(width, eps=eps), nn.Linear(width, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, D] to logits [N, K], float32."""
        hidden = self.net[2](F.relu(self.net[0](x)))
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.net[3](hidden.to(self.net[3].weight.dtype))
        return logits


class PretrainModel(nn.Module):
    """DUET with text branches, a masked-word head and class heads.

    `image_classes` and `object_classes` count the classes whose logits are stored beside the
    features (1000 for ImageNet; None: no such logits, no mrc). Objects with as many classes as
    views share the views' classifier, as in DUET.
    """

    def __init__(
        self,
        policy: DUET,
        *,
        image_classes: int | None = None,
        object_classes: int | None = None,
    ) -> None:
        """Put heads on `policy`; `InputError` unless it has text branches (`lang2visn`)."""
        super().__init__()
        config = policy.config
        if not config.lang2visn:
            raise InputError(
                "pre-training: the model has no text branches; build it with lang2visn = True"
            )
        width, eps = config.hidden_size, config.layer_norm_eps
        self.mlm_head = MaskedWordHead(width, config.vocab_size, eps)
        self.image_classifier = (
            None if image_classes is None else ClassHead(width, image_classes, eps)
        )
        own = object_classes is not None and object_classes != image_classes
        self.obj_classifier = ClassHead(width, object_classes or 1, eps) if own else None
        self._objects_classified = object_classes is not None
        self.apply(init_weights)
        self.policy = policy  # last, so that its weights are not drawn anew

    def word_logits(self, words: Tensor) -> Tensor:
        """Return vocabulary logits [N, vocabulary] of words [N, D]."""
        known = self.policy.embeddings
        narrow = None if known.word_map is None else known.word_map.weight
        logits: Tensor = self.mlm_head(words, known.word_embeddings.weight, narrow)
        return logits

    def view_logits(self, tokens: Tensor) -> Tensor:
        """Return class logits [N, K] of view tokens [N, D]."""
        if self.image_classifier is None:
            raise InputError("mrc: the model has no view classes; build it with image_classes")
        logits: Tensor = self.image_classifier(tokens)
        return logits

    def object_class_logits(self, tokens: Tensor) -> Tensor:
        """Return class logits [N, K] of object tokens [N, D]."""
        if not self._objects_classified:
            raise InputError("mrc: the model has no object classes; build it with object_classes")
        logits: Tensor = (self.obj_classifier or self.view_logits)(tokens)
        return logits

    def forward(
        self, task: TaskName, walks: WalkInputs, *, details: bool = False
    ) -> PretrainOutput:
        """Run what `task` needs: text and panoramas, then the text or the visual branches."""
        policy = self.policy
        text = self._read(task, walks, details)
        panorama = policy.encode_panorama(
            walks.features,
            walks.locations,
            walks.nav_types,
            walks.panorama_mask,
            walks.objects,
            details=details,
        )
        here = walks.panorama_mask[walks.last]
        tokens = panorama.embeds.index_select(0, walks.last)
        layers: dict[str, Layers] = {}
        if details:
            layers["language"] = Layers(text.mask, text.scores, text.hidden)
            layers["panorama"] = Layers(panorama.mask, panorama.scores, panorama.hidden)
        run = {"mlm": self._words, "sap": self._decide}.get(task, self._look)
        embeds, navigation = run(walks, text, tokens, here, panorama, layers)
        return PretrainOutput(
            embeds=embeds,
            here=here,
            nav_types=walks.nav_types[walks.last],
            navigation=navigation,
            embedding=text.embedding,
            words=text.mask,
            layers=layers,
        )

    def _read(self, task: TaskName, walks: WalkInputs, details: bool) -> TextMemory:
        """Read the words; keys and values only for the cross-attentions that the task runs."""
        policy = self.policy
        embedding = policy.embeddings(walks.ids)
        x, scores, hidden = policy.lang_encoder(embedding, key_bias(walks.words), details=details)
        local, nodes = policy.local_encoder.encoder, policy.global_encoder.encoder
        return TextMemory(
            embeds=x,
            mask=walks.words,
            local=() if task == "mlm" else local.text_memory(x),
            global_=nodes.text_memory(x) if task == "sap" else (),
            embedding=embedding if details else None,
            scores=scores,
            hidden=hidden,
        )

    def _words(
        self,
        walks: WalkInputs,
        text: TextMemory,
        tokens: Tensor,
        here: Tensor,
        panorama: PanoramaOutput,
        layers: dict[str, Layers],
    ) -> tuple[Tensor, None]:
        places = walks.places
        out = self.policy.read_with_vision(
            text,
            tokens,
            here,
            places["start_and_candidate_positions"],
            node_features(walks, panorama),
            places["node_steps"],
            places["node_positions"],
            places["node_mask"],
            details=bool(layers),
        )
        if layers:
            layers["local"] = Layers(text.mask, out.local_scores, out.local_hidden)
            layers["global"] = Layers(text.mask, out.global_scores, out.global_hidden)
        return out.embeds, None

    def _look(
        self,
        walks: WalkInputs,
        text: TextMemory,
        tokens: Tensor,
        here: Tensor,
        panorama: PanoramaOutput,
        layers: dict[str, Layers],
    ) -> tuple[Tensor, None]:
        local = self.policy.local_encoder
        seen = local.mask(here)
        x = local.inputs(tokens, walks.places["start_and_candidate_positions"])
        embeds, scores, hidden = local.encoder(
            x, key_bias(seen), text.local, text.bias, details=bool(layers)
        )
        if layers:
            layers["local"] = Layers(seen, scores, hidden)
        return embeds, None

    def _decide(
        self,
        walks: WalkInputs,
        text: TextMemory,
        tokens: Tensor,
        here: Tensor,
        panorama: PanoramaOutput,
        layers: dict[str, Layers],
    ) -> tuple[Tensor, NavigationOutput]:
        out = self.policy.navigate(
            text,
            tokens,
            here,
            node_features=node_features(walks, panorama),
            details=bool(layers),
            decide=not layers,
            **walks.places,
        )
        if layers:
            seen, nodes = self.policy.local_encoder.mask(here), walks.places["node_mask"]
            layers["local"] = Layers(seen, out.local_scores, out.local_hidden)
            layers["global"] = Layers(nodes, out.global_scores, out.global_hidden)
        return out.local_embeds, out


def node_features(walks: WalkInputs, panorama: PanoramaOutput) -> Tensor:
    """Return the map's node features [B, 1 + M, D]: panorama means and means of candidates."""
    width = panorama.embeds.shape[-1]
    pool = torch.cat([panorama.embeds.reshape(-1, width), panorama.mean.to(panorama.embeds.dtype)])
    features = F.embedding_bag(
        walks.source, pool.float(), walks.offsets, mode="sum", per_sample_weights=walks.weight
    )
    return features.view(len(walks.last), -1, width)


def pretraining_state(model: PretrainModel) -> dict[str, Tensor]:
    """Return the state dict under the names of DUET's pre-training checkpoints."""
    out: dict[str, Tensor] = {}
    for name, value in model.policy.state_dict().items():
        out[name if name.startswith(_OUTSIDE_BERT) else f"bert.{name}"] = value
    for name, value in model.state_dict().items():
        if not name.startswith("policy."):
            out[name] = value
    out[DECODER] = model.policy.embeddings.word_embeddings.weight.detach()
    return out


def load_heads(model: PretrainModel, heads: Mapping[str, Tensor], source: str) -> None:
    """Load task heads (`LoadReport.heads`, or any named tensors) into a model, strictly.

    A stored decoder must equal the word table it is tied to. Heads of tasks that `model` does not
    have are left out. Raises `WeightsError` for missing or mis-shaped entries, `InputError` for a
    decoder of its own.
    """
    named = {strip_prefixes(name): value for name, value in heads.items()}
    named = {name: value.float() for name, value in named.items() if name.startswith(TASK_HEADS)}
    table = model.policy.embeddings.word_embeddings.weight
    decoder = named.pop(DECODER, None)
    if decoder is not None and not (
        decoder.shape == table.shape and torch.equal(decoder.to(table.device), table.detach())
    ):
        raise InputError(
            f"{source}: its masked-word decoder differs from its word table; load the word table "
            "of the same checkpoint first"
        )
    mine = {k: v for k, v in model.state_dict().items() if not k.startswith("policy.")}
    parts = {name.split(".", 1)[0] for name in mine}
    named = {name: value for name, value in named.items() if name.split(".", 1)[0] in parts}
    require_same({name: tuple(value.shape) for name, value in mine.items()}, named, source)
    policy = {f"policy.{name}": value for name, value in model.policy.state_dict().items()}
    model.load_state_dict(policy | named)
