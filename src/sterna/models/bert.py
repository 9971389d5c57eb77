"""BERT-family folders: sizes and weights under this package's names, without transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.config import DuetConfig
from sterna.models.layers import key_bias
from sterna.models.text import TextEncoder, WordEmbeddings
from sterna.models.weights import read_tensors, require_same, strip_prefixes

_FIXED = {"model_type": "bert", "hidden_act": "gelu", "type_vocab_size": 2}
_SIZES = {
    "hidden_size": "hidden_size",
    "num_attention_heads": "heads",
    "intermediate_size": "ffn_size",
    "num_hidden_layers": "language_layers",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
}


@dataclass(frozen=True)
class BertFolder:
    """Sizes (only the language part of `sizes` counts) and named weights of a BERT folder."""

    path: Path
    sizes: DuetConfig
    state: dict[str, Tensor]


class BertReader(nn.Module):
    """The language part alone: word embeddings and BERT layers, in inference."""

    def __init__(self, sizes: DuetConfig) -> None:
        """Build from the language part of `sizes`."""
        super().__init__()
        self.embeddings = WordEmbeddings(sizes)
        self.lang_encoder = TextEncoder(sizes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode ids [B, L] with mask [B, L] to [B, L, D]."""
        out, _, _ = self.lang_encoder(self.embeddings(ids), key_bias(mask))
        words: Tensor = out
        return words


def read_bert(folder: str | Path) -> BertFolder:
    """Read config.json and model.safetensors of a BERT-family model, strictly.

    Absolute positions, exact GELU and two token types are required; the pooler is left out. Raises
    `InputError` for anything else.
    """
    path = Path(folder)
    sizes = _read_sizes(path / "config.json")
    state = {}
    for name, value in read_tensors(path / "model.safetensors").items():
        bare = strip_prefixes(name)
        if bare.startswith(("embeddings.", "encoder.layer.")) and "position_ids" not in bare:
            state[bare.replace("encoder.layer.", "lang_encoder.layer.", 1)] = value.float()
    with torch.device("meta"):
        reader = BertReader(sizes)
    expected = {name: tuple(value.shape) for name, value in reader.state_dict().items()}
    require_same(expected, state, str(path / "model.safetensors"))
    return BertFolder(path, sizes, state)


def build_reader(folder: BertFolder) -> BertReader:
    """Return the folder's model in eval mode, without gradients."""
    with torch.device("meta"):
        reader = BertReader(folder.sizes)
    reader.load_state_dict(folder.state, assign=True)
    return reader.eval().requires_grad_(False)


def language_weights(
    folder: str | Path, config: DuetConfig, layers: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """Return entries for `embeddings.*` and `lang_encoder.*` of a DUET model from a BERT folder.

    Width, heads, feed-forward width, vocabulary and positions must agree. `layers` names the
    source layer of each target layer (default: the first ones); a target may have fewer layers.
    Update the model's own state dict with the result and load that. Raises `InputError`.
    """
    source = read_bert(folder)
    if config.word_size is not None:
        raise InputError(
            f"{source.path}: its word table is as wide as its words, the model's word_size is "
            f"{config.word_size}; leave that None"
        )
    for name in ("hidden_size", "heads", "ffn_size", "vocab_size", "max_positions"):
        wanted, found = getattr(config, name), getattr(source.sizes, name)
        if wanted != found:
            raise InputError(
                f"{source.path}: {name} is {found}, the model's is {wanted}; choose a model of the "
                "same sizes"
            )
    chosen = list(range(config.language_layers)) if layers is None else list(layers)
    available = source.sizes.language_layers
    if len(chosen) != config.language_layers or any(not 0 <= n < available for n in chosen):
        raise InputError(
            f"{source.path}: {config.language_layers} layers of 0 .. {available - 1} are needed, "
            f"found {chosen}; name one source layer for each"
        )
    out = {name: v for name, v in source.state.items() if name.startswith("embeddings.")}
    for target, origin in enumerate(chosen):
        prefix = f"lang_encoder.layer.{origin}."
        for name, value in source.state.items():
            if name.startswith(prefix):
                out[f"lang_encoder.layer.{target}.{name[len(prefix) :]}"] = value.clone()
    return out


def _read_sizes(path: Path) -> DuetConfig:
    content: Any = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a BERT configuration, found a list; give its folder")
    for name, wanted in _FIXED.items():
        if content.get(name, wanted) != wanted:
            raise InputError(
                f"{path}: {name} must be {wanted!r}, found {content[name]!r}; choose a BERT model"
            )
    if content.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"{path}: positions must be absolute; choose a plain BERT model")
    missing = [name for name in _SIZES if not isinstance(content.get(name), int)]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing; give a BERT model's folder")
    sizes = {ours: content[theirs] for theirs, ours in _SIZES.items()}
    return DuetConfig(**sizes, layer_norm_eps=float(content.get("layer_norm_eps", 1e-12)))
