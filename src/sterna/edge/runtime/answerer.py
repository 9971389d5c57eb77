"""A vision-language navigator, exported: an instruction and frames in, actions out.

`Answerer` holds the graphs and asks; `Walker` walks: it remembers what was seen and done. An answer
is one pass over the question and one for each action said, with keys and values kept between them;
answers are the likeliest of those that exist. `Asking` is what all engines have in common, torch
too. Needs tokenizers beside onnxruntime and numpy.

Legend: N tokens of a pass, P tokens before it, S tokens of question and answer, T tokens of a
frame, D width, E width of a key, U layers, n actions of an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
from sterna.world.talk.choices import choices, longest_answer
from sterna.world.talk.memory import history
from sterna.world.talk.prompts import Question, Wording
from sterna.world.talk.reading import NOW, PAST, Laid, Reader, Template, read_tokenizer

PASS, SEE, WORDS, TURN, ROUTE = "pass", "see", "words", "turn", "route"
"""The graphs: tokens through the decoder, a frame, words, rotary angles, gates of an answer."""


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


class Asking(ABC):
    """A navigator, opened. It keeps nothing of a walk: any number may share it.

    Engines give what is computed: `_look`, `_embed`, `_turned`, `_gates` and a `Talk`.
    """

    def __init__(
        self,
        reader: Reader,
        wording: Wording,
        *,
        history: tuple[str, int],
        previous: int,
        grids: Mapping[int, tuple[int, int]],
        flops: Mapping[str, Any],
    ) -> None:
        """Take how questions are put: the (kind, budget) of the past that is shown, how many of the
        actions before, rows and columns of tokens of a frame, and what FLOPs are reckoned with."""
        self.reader, self.wording = reader, wording
        self._history, self._previous, self._grids = history, previous, grids
        self._costs = flops
        self._choices = choices(reader, wording)
        self._most = longest_answer(reader, wording)
        self._mask: Array = np.zeros((0, 0), np.float32)

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Rows and columns of a frame, in pixels."""

    def see(self, frame: NDArray[np.uint8]) -> Seen:
        """Look at a frame uint8 [rows, columns, 3]; `InputError` for another size."""
        return self.look([frame])[0]

    def look(self, frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> list[Seen]:
        """Look at several frames at once, which is quicker than one by one; see `see`."""
        if not len(frames):
            return []
        now, then = self._look(np.stack([checked(frame, self.size) for frame in frames]))
        return [Seen(*pair) for pair in zip(now, then, strict=True)]

    @abstractmethod
    def _look(self, frames: NDArray[np.uint8]) -> tuple[Array, Array]:
        """Return the tokens of frames [k, rows, columns, 3]: [k, T, D] now and [k, T', D] then."""

    @abstractmethod
    def _embed(self, ids: Ints) -> Array:
        """Return vectors [N, D] of words [N]; they are the caller's to write to."""

    @abstractmethod
    def _turned(self, positions: Ints) -> tuple[Array, Array]:
        """Return cosines and sines [..., S, E] of positions [3, S]."""

    @abstractmethod
    def _gates(self, vision: Array, words: Array, previous: Ints) -> NDArray[np.bool_]:
        """Return the gates [U] of a question: its image tokens and its words, [N, D] each."""

    @abstractmethod
    def _talk(self, gates: NDArray[np.bool_], angles: tuple[Array, Array]) -> Talk:
        """Begin an answer with the layers that are open; angles [..., S, E] of all its tokens."""

    def answer(self, instruction: str, seen: Sequence[Seen], taken: Sequence[int]) -> Answered:
        """Answer at the last of the frames `seen` (one a step), after the actions `taken`."""
        if not seen or not instruction.strip():
            raise InputError("navigator: give an instruction, and at least one frame (see)")
        if len(taken) != len(seen) - 1:
            raise InputError(
                f"navigator: {len(seen)} frames were seen, so {len(seen) - 1} actions taken, not "
                f"{len(taken)}"
            )
        past = history(len(taken), *self._history)
        previous = np.array(taken[-self._previous :], np.int64)
        prompt = self.wording.prompt(Question(instruction, past, previous))
        laid = Laid(self.reader.question(prompt), self._grids, self.reader.image)
        x = self._embed(laid.ids)
        images = laid.ids == self.reader.image
        x[images] = np.concatenate([*(seen[int(i)].then for i in past), seen[-1].now])
        gates = self._gates(x[images], x[~images], previous)
        # Where the answer's tokens will stand is known before it is: angles are found once.
        later = np.arange(laid.following, laid.following + self._most)
        places = np.concatenate([laid.positions, np.broadcast_to(later, (3, self._most))], 1)
        talk = self._talk(gates, self._turned(places))
        talk.read(x)
        actions, log_prob = self._say(talk)
        flops = self._flops(talk, int(images.sum()))
        return Answered(actions=actions, log_prob=log_prob, gates=gates, flops=flops)

    def _say(self, talk: Talk) -> tuple[Ints, float]:
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

    def _masked(self, before: int, count: int) -> Array:
        """Return what is added to attention [N, P + N]: nobody looks at what comes later."""
        whole, mask = before + count, self._mask
        if len(mask) < whole:
            least = np.finfo(np.float32).min
            mask = np.triu(np.full((2 * whole, 2 * whole), least, np.float32), 1)
            self._mask = mask  # kept for others; threads that meet here each use their own
        return mask[before:whole, :whole]

    def _flops(self, talk: Talk, images: int) -> float:
        costs = self._costs
        total = float(costs["see"]) + len(talk.passes) * float(costs["head"])
        for tokens, before in talk.passes:
            scores = 4 * (tokens + before) * costs["width"]
            total += sum(tokens * (2 * costs["linears"][n] + scores) for n in talk.open)
        words = talk.passes[0][0] - images
        return total + float(
            images * costs["router_image"] + words * costs["router_word"] + costs["router"]
        )


class Talk(ABC):
    """One answer under way: keys and values so far, and the logits of what comes next."""

    def __init__(self, asking: Asking, open_: Sequence[int], angles: tuple[Array, Array]) -> None:
        self._asking, self.open, self._angles = asking, open_, angles
        self.logits: Array = np.zeros(0, np.float32)
        self.passes: list[tuple[int, int]] = []
        self._before = 0

    def read(self, x: Array) -> None:
        """Pass vectors [N, D] through the decoder."""
        before, count = self._before, len(x)
        self.passes.append((count, before))
        self._before += count
        cos, sin = (part[..., before : before + count, :] for part in self._angles)
        self.logits = self._pass(x, cos, sin, self._asking._masked(before, count))

    def tell(self, ids: Sequence[int]) -> None:
        """Read words."""
        self.read(self._asking._embed(np.array(ids, np.int64)))

    @abstractmethod
    def _pass(self, x: Array, cos: Array, sin: Array, mask: Array) -> Array:
        """Return the logits [V] after tokens [N, D], and keep their keys and values."""


class Answerer(Asking):
    """An exported navigator, opened."""

    def __init__(
        self, folder: str | Path, name: str = "onnx", *, threads: int = 1, rho: float | None = None
    ) -> None:
        """Open an engine of a folder, proven first; `rho` is its budget (default: the folder's).

        Raises `InputError` for another kind of folder, an unknown engine, or an unknown budget.
        """
        root = Path(folder)
        content = holding(root, NAVIGATOR, name, threads)
        if TURN not in content["graphs"][name]:
            raise InputError(f"{root}: exported by an earlier version of sterna; export again")
        self.name, self.threads, self.manifest = name, threads, content
        self.routes = content["routes"]
        self.threshold = threshold_of(self.routes, rho, root)
        graphs = content["graphs"][name]
        self._run = {part: session_of(root / file, threads) for part, file in graphs.items()}
        self._routed = _Pass(self._run[PASS])
        # The static graph holds the layers that are open most often: while no others are asked for,
        # it says the same, and has no branches to pass by.
        self._fixed: _Pass | None = None
        static = content["graphs"].get(name.replace("onnx", "onnx-static", 1))
        if self._routed.gated and static is not None:
            self._fixed = _Pass(session_of(root / static[PASS], threads))
        heads, size = content["cache"]
        self._empty: Array = np.zeros((heads, 0, size), np.float32)
        kept, grids = content["history"], content["grids"]
        super().__init__(
            Reader(read_tokenizer(root), Template(**content["template"]), marks=content["marks"]),
            Wording(**content["wording"]),
            history=(kept["kind"], kept["budget"]),
            previous=int(content["previous"]),
            grids={PAST: tuple(grids["then"]), NOW: tuple(grids["now"])},
            flops=content["flops"],
        )

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

    def _look(self, frames: NDArray[np.uint8]) -> tuple[Array, Array]:
        now, then = self._run[SEE].run(None, {"frames": frames})
        return now, then

    def _embed(self, ids: Ints) -> Array:
        found: Array = self._run[WORDS].run(None, {"ids": ids})[0]
        return found

    def _turned(self, positions: Ints) -> tuple[Array, Array]:
        cos, sin = self._run[TURN].run(None, {"positions": positions})
        return cos, sin

    def _gates(self, vision: Array, words: Array, previous: Ints) -> NDArray[np.bool_]:
        if ROUTE not in self._run:
            gates = np.zeros(len(self.routes["units"]), np.bool_)
            gates[list(self._routed.layers)] = True
            return gates
        recent = recent_of(previous, self._previous)
        threshold = np.array(self.threshold, np.float32)
        feed = {"threshold": threshold, "vision": vision, "words": words, "recent": recent}
        found: NDArray[np.bool_] = self._run[ROUTE].run(None, feed)[0]
        return found

    def _talk(self, gates: NDArray[np.bool_], angles: tuple[Array, Array]) -> Talk:
        open_ = np.flatnonzero(gates).tolist()
        same = self._fixed is not None and tuple(open_) == self._fixed.layers
        chosen = self._fixed if same else self._routed
        assert chosen is not None
        return _Heard(self, chosen, gates, open_, angles)


class _Pass:
    """A graph of the decoder, and what its inputs and outputs say of it."""

    def __init__(self, session: Any) -> None:
        self.run = session.run
        takes = [entry.name for entry in session.get_inputs()]
        self.layers = tuple(
            sorted(int(n.removeprefix("keys_")) for n in takes if n.startswith("keys_"))
        )
        self.gated = "gates" in takes
        # Outputs are named after_UNIT_1 (keys) and after_UNIT_2 (values).
        gives = [entry.name.split("_") for entry in session.get_outputs()[1:]]
        self.gives = [f"{'keys' if place == '1' else 'values'}_{u}" for _, u, place in gives]


class _Heard(Talk):
    """An answer under way in ONNX Runtime."""

    def __init__(
        self,
        answerer: Answerer,
        chosen: _Pass,
        gates: NDArray[np.bool_],
        open_: Sequence[int],
        angles: tuple[Array, Array],
    ) -> None:
        super().__init__(answerer, open_, angles)
        self._graph = chosen
        self._kept: dict[str, NDArray[Any]] = {
            f"{kind}_{n}": answerer._empty for n in chosen.layers for kind in ("keys", "values")
        }
        if chosen.gated:
            self._kept["gates"] = gates

    def _pass(self, x: Array, cos: Array, sin: Array, mask: Array) -> Array:
        feed = {"x": x, "cosines": cos, "sines": sin, "mask": np.ascontiguousarray(mask)}
        logits, *kept = self._graph.run(None, feed | self._kept)
        self._kept.update(zip(self._graph.gives, kept, strict=True))
        found: Array = logits
        return found


def checked(frame: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a frame; `InputError` unless it is uint8 and [*size, 3]."""
    found = np.asarray(frame)
    if found.dtype != np.uint8 or found.shape != (*size, 3):
        raise InputError(
            f"navigator: a frame must be uint8 {[*size, 3]}, found {found.dtype} "
            f"{list(found.shape)}; resize it to what the policy was trained on"
        )
    return found


def recent_of(previous: Ints, most: int) -> Array:
    """Return the actions before as a router takes them: float32 [most A], the last one last."""
    recent = np.zeros((most, len(Action)), np.float32)
    recent[np.arange(most - len(previous), most), previous] = 1
    return recent.ravel()


class Walker:
    """A navigator that walks: `start` with an instruction, then `act` from frame to frame."""

    def __init__(self, answerer: Asking, *, execute: int | None = None) -> None:
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
        self._waiting: list[NDArray[np.uint8]] = []
        self._taken: list[int] = []
        self._planned: list[int] = []

    def act(self, frame: NDArray[np.uint8]) -> Action:
        """Return what to do at a frame; `last` holds the answer that it is from."""
        if self._instruction is None:
            raise InputError("navigator: no walk is under way; call start(instruction) first")
        # Looked at when an answer needs them, together; a camera may reuse its memory till then.
        self._waiting.append(checked(frame, self.answerer.size).copy())
        if not self._planned:
            seen = [*self._seen, *self.answerer.look(self._waiting)]
            self.last = self.answerer.answer(self._instruction, seen, self._taken)
            self._planned = self.last.actions[: self.execute].tolist()
            # What is past is needed as such alone, a fraction of its tokens.
            self._seen += [Seen(one.then, one.then) for one in seen[len(self._seen) :]]
            self._waiting = []
        self._taken.append(self._planned.pop(0))
        return Action(self._taken[-1])


def open_walker(folder: str | Path, name: str = "onnx", **options: Any) -> Walker:
    """Open a folder as a `Walker`; options are those of `Answerer.open`, and ``execute``."""
    execute = options.pop("execute", None)
    return Walker(Answerer.open(folder, name, **options), execute=execute)
