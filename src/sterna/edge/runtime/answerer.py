"""A vision-language navigator, exported: an instruction and frames in, actions out.

`Answerer` holds the graphs and asks; `Walker` walks: it remembers what was seen and done. An answer
is one pass over the question and one for each action said, with keys and values kept between them;
answers are the likeliest of those that exist. Needs tokenizers beside onnxruntime and numpy.

Legend: N tokens of a pass, T tokens of a frame, D width, U layers, n actions of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.runtime.engine import Array, session_of
from sterna.edge.runtime.folder import NAVIGATOR, holding, threshold_of
from sterna.errors import InputError
from sterna.world.frames import Action
from sterna.world.geometry import Ints
from sterna.world.talk.choices import choices
from sterna.world.talk.memory import history
from sterna.world.talk.prompts import Question, Wording
from sterna.world.talk.reading import NOW, PAST, Laid, Reader, Template, read_tokenizer

PASS, SEE, WORDS, ROUTE = "pass", "see", "words", "route"
"""The graphs: tokens through the decoder, a frame, words, and the gates of an answer."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame as tokens: `now` [T, D] while it is the present, `then` [T', D] afterwards."""

    now: Array
    then: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """What to do: `actions` [n] (`sterna.world.frames.Action`), and how it was found.

    `log_prob` is that of the answer among those that exist, `gates` bool [U] are the layers that
    ran, `flops` those of the answer and of seeing one frame.
    """

    actions: Ints
    log_prob: float
    gates: NDArray[np.bool_]
    flops: float


class Answerer:
    """An exported navigator, opened. It keeps nothing of a walk: any number may share it."""

    def __init__(
        self, folder: str | Path, name: str = "onnx", *, threads: int = 1, rho: float | None = None
    ) -> None:
        """Open an engine of a folder, proven first; `rho` is its budget (default: the folder's).

        Raises `InputError` for another kind of folder, an unknown engine, or an unknown budget.
        """
        root = Path(folder)
        content = holding(root, NAVIGATOR, name, threads)
        self.name, self.threads, self.manifest = name, threads, content
        self.routes = content["routes"]
        self.threshold = threshold_of(self.routes, rho, root)
        graphs = content["graphs"][name]
        self._run = {part: session_of(root / file, threads) for part, file in graphs.items()}
        takes = [entry.name for entry in self._run[PASS].get_inputs()]
        self._layers = [n for n in range(len(self.routes["units"])) if f"keys_{n}" in takes]
        self._gated = "gates" in takes
        self._gives = [entry.name for entry in self._run[PASS].get_outputs()]
        heads, size = content["cache"]
        self._empty: Array = np.zeros((heads, 0, size), np.float32)
        template = Template(**content["template"])
        self.reader = Reader(read_tokenizer(root), template, marks=content["marks"])
        self.wording = Wording(**content["wording"])
        self._choices = choices(self.reader, self.wording)
        grids = content["grids"]
        self._grids = {PAST: tuple(grids["then"]), NOW: tuple(grids["now"])}

    @classmethod
    def open(
        cls, folder: str | Path, name: str = "onnx", *, threads: int = 1, rho: float | None = None
    ) -> Answerer:
        """Open a folder."""
        return cls(folder, name, threads=threads, rho=rho)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a frame, in pixels."""
        rows, columns = self.manifest["frame"]
        return int(rows), int(columns)

    def see(self, frame: NDArray[np.uint8]) -> Seen:
        """Look at a frame uint8 [rows, columns, 3]; `InputError` for another size."""
        found = np.asarray(frame)
        if found.dtype != np.uint8 or found.shape != (*self.size, 3):
            raise InputError(
                f"navigator: a frame must be uint8 {[*self.size, 3]}, found {found.dtype} "
                f"{list(found.shape)}; resize it to what the policy was trained on"
            )
        return Seen(*self._run[SEE].run(None, {"frame": np.ascontiguousarray(found)}))

    def answer(self, instruction: str, seen: Sequence[Seen], taken: Sequence[int]) -> Answered:
        """Answer at the last of the frames `seen` (one a step), after the actions `taken`."""
        if not seen or not instruction.strip():
            raise InputError("navigator: give an instruction, and at least one frame (see)")
        if len(taken) != len(seen) - 1:
            raise InputError(
                f"navigator: {len(seen)} frames were seen, so {len(seen) - 1} actions taken, not "
                f"{len(taken)}"
            )
        kept, last = self.manifest["history"], int(self.manifest["previous"])
        past = history(len(taken), kept["kind"], kept["budget"])
        previous = np.array(taken[-last:], np.int64)
        prompt = self.wording.prompt(Question(instruction, past, previous))
        laid = Laid(self.reader.question(prompt), self._grids, self.reader.image)
        (x,) = self._run[WORDS].run(None, {"ids": laid.ids})
        images = laid.ids == self.reader.image
        x[images] = np.concatenate([*(seen[int(i)].then for i in past), seen[-1].now])
        gates = self._decide(x, images, previous)
        talk = _Talk(self, gates)
        talk.read(x, laid.positions)
        talk.following = laid.following
        actions, log_prob = self._say(talk)
        flops = self._flops(talk)
        return Answered(actions=actions, log_prob=log_prob, gates=gates, flops=flops)

    def _decide(self, x: Array, images: NDArray[np.bool_], previous: Ints) -> NDArray[np.bool_]:
        if ROUTE not in self._run:
            gates = np.zeros(len(self.routes["units"]), np.bool_)
            gates[self._layers] = True
            return gates
        most = int(self.manifest["previous"])
        recent = np.zeros((most, len(Action)), np.float32)
        recent[np.arange(most - len(previous), most), previous] = 1
        feed = {
            "threshold": np.array(self.threshold, np.float32),
            "x": x,
            "vision": images,
            "words": ~images,
            "recent": recent.ravel(),
        }
        found: NDArray[np.bool_] = self._run[ROUTE].run(None, feed)[0]
        return found

    def _say(self, talk: _Talk) -> tuple[Ints, float]:
        """Choose action after action; what an option has in common with others is only read."""
        found, n = self._choices, self.wording.actions
        actions, total = np.zeros(n, np.int64), 0.0
        if found.first.shared:
            talk.tell(found.first.shared)
        for place in range(n):
            slot = found.slot(place)
            logits = talk.logits[list(slot.heads)].astype(np.float64)
            action = int(logits.argmax())
            actions[place] = action
            total += float(logits[action] - np.logaddexp.reduce(logits))
            if place + 1 < n:
                talk.tell((slot.heads[action], *slot.tails[action], *found.later.shared))
        return actions, total

    def _flops(self, talk: _Talk) -> float:
        costs = self.manifest["flops"]
        total = float(costs["see"]) + len(talk.passes) * float(costs["head"])
        for tokens, before in talk.passes:
            scores = 4 * (tokens + before) * costs["width"]
            total += sum(tokens * (2 * costs["linears"][n] + scores) for n in talk.open)
        return total + float(talk.passes[0][0] * costs["router_token"] + costs["router"])


class _Talk:
    """One answer under way: keys and values so far, and the logits of what comes next."""

    def __init__(self, answerer: Answerer, gates: NDArray[np.bool_]) -> None:
        self._answerer, self.logits, self.following = answerer, np.zeros(0, np.float32), 0
        self.passes: list[tuple[int, int]] = []
        self.open = [n for n in answerer._layers if gates[n]]
        empty = answerer._empty
        self._kept: dict[str, NDArray[Any]] = {
            f"{kind}_{n}": empty for n in answerer._layers for kind in ("keys", "values")
        }
        if answerer._gated:
            self._kept["gates"] = gates

    def read(self, x: Array, positions: Ints) -> None:
        """Pass vectors [N, D] at positions [3, N] through the decoder."""
        before = sum(tokens for tokens, _ in self.passes)
        self.passes.append((len(x), before))
        names = self._answerer._gives
        found = self._answerer._run[PASS].run(None, {"x": x, "positions": positions} | self._kept)
        self.logits = found[0]
        for name, value in zip(names[1:], found[1:], strict=True):
            _, unit, place = name.split("_")
            self._kept[f"{'keys' if place == '1' else 'values'}_{unit}"] = value

    def tell(self, ids: Sequence[int]) -> None:
        """Read words."""
        (x,) = self._answerer._run[WORDS].run(None, {"ids": np.array(ids, np.int64)})
        places = np.arange(self.following, self.following + len(ids), dtype=np.int64)
        self.following += len(ids)
        self.read(x, np.ascontiguousarray(np.broadcast_to(places, (3, len(ids)))))


class Walker:
    """A navigator that walks: `start` with an instruction, then `act` from frame to frame."""

    def __init__(self, answerer: Answerer, *, execute: int | None = None) -> None:
        """Use an opened navigator; `execute` actions of an answer are carried out (None: all)."""
        most = answerer.wording.actions
        if execute is not None and not 1 <= execute <= most:
            raise InputError(
                f"execute: expected 1 to the {most} actions of an answer, found {execute}"
            )
        self.answerer, self.execute = answerer, execute or most
        self.last: Answered | None = None
        self._instruction: str | None = None

    def start(self, instruction: str) -> None:
        """Begin a walk; the one before is forgotten."""
        self._instruction, self.last = instruction, None
        self._seen: list[Seen] = []
        self._taken: list[int] = []
        self._planned: list[int] = []

    def act(self, frame: NDArray[np.uint8]) -> Action:
        """Return what to do at a frame; `last` holds the answer that it is from."""
        if self._instruction is None:
            raise InputError("navigator: no walk is under way; call start(instruction) first")
        if self._seen:  # what is past is needed as such alone, a fraction of its tokens
            self._seen[-1] = Seen(self._seen[-1].then, self._seen[-1].then)
        self._seen.append(self.answerer.see(frame))
        if not self._planned:
            self.last = self.answerer.answer(self._instruction, self._seen, self._taken)
            self._planned = self.last.actions[: self.execute].tolist()
        self._taken.append(self._planned.pop(0))
        return Action(self._taken[-1])


def open_walker(folder: str | Path, name: str = "onnx", **options: Any) -> Walker:
    """Open a folder as a `Walker`; options are those of `Answerer.open`, and ``execute``."""
    execute = options.pop("execute", None)
    return Walker(Answerer.open(folder, name, **options), execute=execute)
