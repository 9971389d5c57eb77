"""Sentences as vectors: a sentence-transformers folder run by our own BERT layers.

Legend: n sentences, B batch, L word pieces, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sterna.errors import InputError
from sterna.files import read_json, sha256
from sterna.models.bert import build_reader, read_bert
from sterna.models.tokens import MINILM, Tokenizer, find_encoder


class SentenceEncoder:
    """Mean of the word outputs over the mask, scaled to length 1 (sentence-transformers)."""

    def __init__(self, folder: str | Path, *, precision: Literal["fp32", "bf16"] = "fp32") -> None:
        """Read config, weights and tokenizer of a BERT-family folder; strict, `InputError`.

        `precision` is what `encode` computes in unless told: bf16 runs the linear layers in
        bfloat16 (faster on recent CPUs; cosines change by about 1e-3).
        """
        self.folder = Path(folder)
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        _require_mean_pooling(self.folder)
        bert = read_bert(self.folder)
        self.width = bert.sizes.hidden_size
        self.max_words = min(bert.sizes.max_positions, _max_words(self.folder))
        self.tokenizer = Tokenizer(self.folder / "tokenizer.json")
        self.reader = build_reader(bert)
        self.digest = sha256(self.folder / "model.safetensors")
        if precision != "fp32":
            self.digest = f"{self.digest}-{precision}"
        self.name = self.folder.name

    @classmethod
    def from_folder(
        cls, name: str | Path = MINILM, *, precision: Literal["fp32", "bf16"] = "fp32"
    ) -> SentenceEncoder:
        """Open a folder, or all-MiniLM-L6-v2 wherever it is; see `tokens.find_encoder`."""
        encoder = cls(find_encoder(name), precision=precision)
        if not Path(name).is_dir():
            encoder.name = str(name)
        return encoder

    def encode(
        self,
        sentences: list[str],
        batch_size: int = 128,
        dtype: torch.dtype | None = None,
        *,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed sentences as float32 [n, D], rows of length 1, in the given order.

        Batches hold sentences of like length, so little padding is computed. `dtype` overrides the
        encoder's precision.
        """
        ids = self._ids(sentences)
        order = np.argsort([len(row) for row in ids], kind="stable")
        out = np.zeros((len(ids), self.width), np.float32)
        starts = range(0, len(ids), batch_size)
        for start in tqdm(starts, desc="sentences", disable=not progress):
            chosen = order[start : start + batch_size]
            out[chosen] = self._embed([ids[i] for i in chosen], dtype or self.dtype).numpy()
        return out

    def _ids(self, sentences: list[str]) -> list[list[int]]:
        """Tokenise; a sentence cut at the longest length keeps its final [SEP]."""
        rows = self.tokenizer.batch(sentences, max_words=1 << 30)
        return [
            row if len(row) <= self.max_words else [*row[: self.max_words - 1], row[-1]]
            for row in rows
        ]

    def _embed(self, rows: list[list[int]], dtype: torch.dtype) -> Tensor:
        width = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.int64)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row)] = torch.tensor(row)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(width)[None] < lengths[:, None]
        narrow = dtype != torch.float32
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=narrow):
            words = self.reader(ids, mask)
        total = (words.float() * mask[..., None]).sum(1)
        return torch.nn.functional.normalize(total / lengths[:, None], dim=-1)


def _require_mean_pooling(folder: Path) -> None:
    path = folder / "1_Pooling" / "config.json"
    if path.is_file() and not read_json(path).get("pooling_mode_mean_tokens", False):
        raise InputError(f"{path}: expected mean pooling; choose an encoder that pools by the mean")


def _max_words(folder: Path) -> int:
    path = folder / "sentence_bert_config.json"
    return int(read_json(path).get("max_seq_length") or 512) if path.is_file() else 512
