"""Where weights begin: random, from published checkpoints, from a language model, from words."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.bert import language_weights
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.pretrained import from_pretrained
from sterna.models.tokens import find_encoder
from sterna.models.weights import Kind, load_weights
from sterna.recipes.config import StartConfig
from sterna.recipes.world import World

_LOUD = 4.0
"""Scale of projected sentence embeddings (length 1) before their LayerNorm: clear of its noise."""


def begin(config: DuetConfig, start: StartConfig, seed: int, world: World) -> DUET:
    """Build a policy with the weights that a run begins with; the same seed, the same weights."""
    torch.manual_seed(seed)
    model = DUET(config)
    if start.weights is not None:
        return _from_weights(config, start)
    if start.spread is not None:
        _spread(model, start.spread or config.hidden_size**-0.5)
    if start.language is not None:
        _fill(model, language_weights(find_encoder(start.language), config))
    if start.word_table:
        _share_words(model, world)
    elif start.language is not None:
        _see_captions(model, torch.eye(config.hidden_size))
    if start.aligned:
        _align(model)
    if start.still:
        _still(model)
    return model


def _from_weights(config: DuetConfig, start: StartConfig) -> DUET:
    assert start.weights is not None
    if start.weights.is_dir():
        model = _with_branches(from_pretrained(start.weights), config, str(start.weights))
    else:
        kind: Kind = "pretraining" if config.lang2visn else "navigation"
        found, state, _ = load_weights(start.weights, kind=kind, heads=config.heads)
        model = DUET(found)
        model.load_state_dict(state)
    model = _with_objects(model, config)
    width = model.config.hidden_size
    if width != config.hidden_size:
        raise InputError(
            f"{start.weights}: width {width}, the recipe's model has {config.hidden_size}; "
            "set --model.hidden-size and its fellows to the checkpoint's"
        )
    if model.config.feature_size != config.feature_size:
        raise InputError(
            f"{start.weights}: reads features of width {model.config.feature_size}, the view store "
            f"has {config.feature_size}; name the store these weights belong to (--data.views)"
        )
    return model


def _with_branches(model: DUET, config: DuetConfig, source: str) -> DUET:
    """Return the model with or without text branches, as `config` has it.

    Where branches are left behind (fine-tuning after pre-training) dropout becomes `config`'s too.
    """
    if model.config.lang2visn == config.lang2visn:
        return model
    if config.lang2visn:
        raise InputError(
            f"{source}: a navigator without text branches, which pre-training needs; begin with "
            "a pre-training run or a published pre-training checkpoint"
        )
    sizes = replace(
        model.config,
        lang2visn=False,
        dropout=config.dropout,
        feature_dropout=config.feature_dropout,
    )
    out, state = DUET(sizes), model.state_dict()
    out.load_state_dict({name: state[name] for name in out.state_dict()})
    return out


def _with_objects(model: DUET, config: DuetConfig) -> DUET:
    """Give a model that sees no objects a new linear and head for them, where `config` has some."""
    if model.config.object_size is not None or config.object_size is None:
        return model
    out, state = DUET(replace(model.config, object_size=config.object_size)), model.state_dict()
    out.load_state_dict(out.state_dict() | state)
    return out


def _fill(model: DUET, part: dict[str, Tensor]) -> None:
    state = model.state_dict()
    model.load_state_dict(state | part)


def _spread(model: DUET, deviation: float) -> None:
    """Draw matrices from N(0, deviation); embedding tables and the graph bias are left alone."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embeddings." not in name and "sprel" not in name:
            nn.init.normal_(parameter, std=deviation)


def _see_captions(model: DUET, projection: Tensor) -> None:
    """Let views begin as projected captions (plus, at half strength, object names).

    View features are [caption | objects] or captions alone, each as wide as the encoder. Objects
    whose features are that wide (embedded names) begin as captions do.
    """
    weight = model.img_embeddings.img_linear.weight
    width, size = projection.shape[1], model.config.object_size
    with torch.no_grad():
        if size == width and not model.config.shared_objects:
            model.img_embeddings.obj_linear.weight.copy_(_LOUD * projection)
        for part, strength in enumerate((_LOUD, _LOUD / 2)):
            if (part + 1) * width <= weight.shape[1]:
                weight[:, part * width : (part + 1) * width] = strength * projection


def _share_words(model: DUET, world: World) -> None:
    vectors, projection = world.word_vectors(model.config.hidden_size)
    words, table = model.embeddings.word_map, model.embeddings.word_embeddings.weight
    if len(table) != len(vectors):
        raise InputError(
            f"word table: the encoder knows {len(vectors)} words, the model {len(table)}; "
            "set --model.vocab-size to the encoder's"
        )
    with torch.no_grad():
        whole = torch.from_numpy(vectors)
        if words is not None:
            # The best table of that width: what the first directions of the words hold.
            _, _, directions = torch.linalg.svd(whole, full_matrices=False)
            words.weight.copy_(directions[: table.shape[1]].T)
            whole = whole @ words.weight
        table.copy_(whole)
    _see_captions(model, torch.from_numpy(projection))


def _align(model: DUET) -> None:
    """Begin cross-attention as similarity: keys equal queries, drawn from N(0, 1 / width)."""
    weights = dict(model.named_parameters())
    for name, query in weights.items():
        if name.endswith("visual_attention.att.query.weight"):
            nn.init.normal_(query, std=model.config.hidden_size**-0.5)
            with torch.no_grad():
                weights[name.replace("att.query", "att.key")].copy_(query)


def _still(model: DUET) -> None:
    """Begin every residual branch at zero, so that layers pass on what they are given."""
    ends = ("output.dense.weight", "out_proj.weight", "linear2.weight")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(ends):
                parameter.zero_()
