"""The three graphs in ONNX Runtime, and the words: everything that does not change while walking.

One engine serves any number of navigators, from any number of threads.

Legend: L words, W views, O objects, T = W + O panorama tokens, C candidates, M map nodes, K slots
that may be chosen, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.runtime.folder import PARTS, Manifest, read_manifest, threshold_of
from sterna.edge.runtime.panorama import Tokens
from sterna.errors import InputError

Array = NDArray[np.float32]
READ = ("memory", "heard")
"""What reading an instruction may leave for the steps of an episode."""


class Engine:
    """An exported policy, opened. Its methods are the graphs; `Navigator` drives them."""

    def __init__(
        self,
        manifest: Manifest,
        name: str = "onnx",
        *,
        threads: int = 1,
        rho: float | None = None,
    ) -> None:
        """Open the graphs of one engine (see `ENGINES`) on `threads` CPU threads.

        `rho` is the budget of a routed policy (default: the manifest's). Raises `InputError` for
        an engine or a budget that is not in the folder.
        """
        if threads < 1:
            raise InputError(f"threads must be at least 1, found {threads}")
        self.manifest, self.name, self.threads = manifest, name, threads
        self.threshold = _threshold(manifest, rho)
        sessions = [session_of(manifest.graph(name, part), threads) for part in PARTS]
        self._text, self._panorama, self._step = sessions
        self._tokenizer = _tokenizer(manifest.folder / manifest.tokenizer)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        name: str = "onnx",
        *,
        threads: int = 1,
        rho: float | None = None,
    ) -> Engine:
        """Open a folder, once every file in it was found to be the one exported."""
        return cls(read_manifest(folder), name, threads=threads, rho=rho)

    @property
    def width(self) -> int:
        """Width D of tokens and map nodes."""
        return int(self.manifest.sizes["hidden_size"])

    @property
    def feature_size(self) -> int:
        """Width of one view feature."""
        return int(self.manifest.sizes["feature_size"])

    @property
    def object_size(self) -> int | None:
        """Width of one object feature; None for a policy that reads no objects."""
        size: int | None = self.manifest.sizes["object_size"]
        return size

    def words(self, instruction: str) -> list[int]:
        """Return the word ids of an instruction, cut as in training."""
        return list(self._tokenizer.encode(instruction).ids[: self.manifest.max_words])

    def read(self, ids: Sequence[int]) -> dict[str, Array]:
        """Return what L word ids leave for all steps, as `decide` takes it.

        ``memory`` are keys and values [2, X, 2, H, L, E]; routed policies also have what their
        router ``heard`` [G].
        """
        sizes, words = self.manifest.sizes, np.asarray(ids, np.int64)
        most, known = int(sizes["max_positions"]), int(sizes["vocab_size"])
        if words.ndim != 1 or not 1 <= len(words) <= most:
            raise InputError(f"instruction: expected 1 to {most} word ids, found {words.shape}")
        if words.min() < 0 or words.max() >= known:
            raise InputError(
                f"instruction: word id {int(words.max())} where the policy knows {known} words; "
                "tokenise with the folder's own tokenizer"
            )
        wanted = [name for name in READ if name in self._takes["step"]]
        found = self._text.run(wanted, self._routed("text", {"ids": words}))
        return dict(zip(wanted, found, strict=True))

    def look(self, seen: Tokens) -> tuple[Array, Array]:
        """Return the panorama's tokens [T, D] and their mean [D]."""
        views = len(seen.views)
        feed: dict[str, Any] = {
            "views": seen.views,
            "locations": seen.locations[:views],
            "kinds": seen.kinds,
        }
        if self.object_size is not None:
            feed |= {"objects": seen.objects, "object_locations": seen.locations[views:]}
        tokens, mean = self._panorama.run(None, feed)
        return tokens, mean

    def decide(self, feed: dict[str, NDArray[Any]]) -> tuple[Array, Array | None]:
        """Return logits [K] of the slots in ``choices``, and of ``near`` where objects are read.

        `feed` holds the inputs of `edge.graphs.StepGraph` by name.
        """
        logits, near, _ = self.judge(feed)
        return logits, near

    def judge(
        self, feed: dict[str, NDArray[Any]]
    ) -> tuple[Array, Array | None, NDArray[np.bool_] | None]:
        """Return what `decide` does and the gates [U] of a routed policy (None: all units run)."""
        logits, *rest = self._step.run(None, self._routed("step", feed))
        near = rest.pop(0) if self.object_size is not None else None
        return logits, near, rest[0] if rest else None

    @cached_property
    def _takes(self) -> dict[str, frozenset[str]]:
        """Names of what the graphs of words and of a decision take."""
        sessions = {"text": self._text, "step": self._step}
        return {
            part: frozenset(entry.name for entry in session.get_inputs())
            for part, session in sessions.items()
        }

    def _routed(self, part: str, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Add the threshold where a graph asks for it, and leave out what a static one does not."""
        if self.threshold is None:
            return feed
        feed = {**feed, "threshold": np.array(self.threshold, np.float32)}
        return {name: value for name, value in feed.items() if name in self._takes[part]}


def runtime() -> Any:
    """Import ONNX Runtime; `InputError` says how to install it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "exported policies need onnxruntime; pip install 'sterna[edge]'"
        ) from error
    return onnxruntime


def session_of(path: Path, threads: int) -> Any:
    """Open one graph in ONNX Runtime; `InputError` where that is not installed."""
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Three graphs take turns: threads of one that wait awake would hold up the next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer  # here, so that a client of `sterna serve` does without

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _threshold(manifest: Manifest, rho: float | None) -> float | None:
    if manifest.routes is None:
        if rho is not None:
            raise InputError(f"{manifest.folder}: is no routed policy, it has no budget rho")
        return None
    return threshold_of(manifest.routes, rho, manifest.folder)
