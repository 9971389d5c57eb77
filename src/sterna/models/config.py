"""The sizes that define a DUET model."""

from __future__ import annotations

from dataclasses import dataclass

from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DuetConfig:
    """Sizes and switches of a dual-scale graph transformer (Chen et al., CVPR 2022).

    Raises `InputError` when a size is impossible.
    """

    hidden_size: int = 768
    """Width D of every token."""
    heads: int = 12
    """Attention heads H; must divide `hidden_size`."""
    ffn_size: int = 3072
    """Inner width of the feed-forward blocks."""
    language_layers: int = 9
    """BERT layers over the instruction."""
    panorama_layers: int = 2
    """Pre-norm layers over the views (and objects) of one viewpoint."""
    cross_layers: int = 4
    """Layers of each of the two cross-modal encoders (local and global)."""
    vocab_size: int = 30522
    """Rows of the word table."""
    word_size: int | None = None
    """Width E of the word table, with a linear from E to D behind it (factorised embeddings; Lan et
    al., "ALBERT", 2020): most of a small model's weights are words. None: D, and no linear."""
    max_positions: int = 512
    """Longest instruction, in word pieces."""
    max_steps: int = 100
    """Rows of the step table; step ids are 0 .. max_steps - 1."""
    feature_size: int = 768
    """Width of one view feature."""
    object_size: int | None = None
    """Width of one object feature; None: no objects. Equal to `feature_size`: shares its linear."""
    dropout: float = 0.1
    """Dropout inside the transformer."""
    feature_dropout: float = 0.4
    """Dropout on raw view and object features."""
    graph_bias: bool = True
    """Add a linear function of map distances to the attention scores of the global encoder."""
    lang2visn: bool = False
    """Also build the text branches of the cross-modal layers (pre-training)."""
    layer_norm_eps: float = 1e-12
    """Epsilon of every LayerNorm but those inside the panorama layers (1e-5)."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = ("hidden_size", "heads", "ffn_size", "vocab_size", "max_positions", "max_steps")
        for name in (*sizes, "language_layers", "cross_layers", "feature_size"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("panorama_layers", self.panorama_layers >= 0, "0 or more")
        if self.object_size is not None:
            self._require("object_size", self.object_size >= 1, "at least 1, or None")
        if self.word_size is not None:
            expected = f"between 1 and hidden_size {self.hidden_size}, or None"
            self._require("word_size", 1 <= self.word_size <= self.hidden_size, expected)
        for name in ("dropout", "feature_dropout"):
            self._require(name, 0.0 <= getattr(self, name) < 1.0, "in [0, 1)")
        self._require("layer_norm_eps", self.layer_norm_eps > 0.0, "positive")
        if self.hidden_size % self.heads:
            raise InputError(
                f"DuetConfig: hidden_size {self.hidden_size} is not a multiple of heads "
                f"{self.heads}; choose a width that every head divides"
            )

    def _require(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise InputError(
                f"DuetConfig: {name} must be {expected}, found {getattr(self, name)}; change it"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.heads

    @property
    def word_width(self) -> int:
        """Width E of the word table."""
        return self.hidden_size if self.word_size is None else self.word_size

    @property
    def shared_objects(self) -> bool:
        """Whether objects go through the image linear (DUET does so when the widths agree)."""
        return self.object_size == self.feature_size
