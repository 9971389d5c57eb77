"""One arm in a process of its own: ``python -m sterna.edge.bench.worker JOB``.

Opens the engine, walks the episode for warmth, says one line of JSON, and then for every line n on
standard input walks once unmeasured and n times measured, and says what that took. Nothing is
imported before its time is taken, and torch only by the engines that need it, so that memory is
that of the engine alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from sterna.errors import InputError

_WARM = 2


def serve(job: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    """Open, say so, and take turns until standard input ends."""
    try:
        walks, ready = _open(job)
    except InputError as error:
        say({"error": str(error)})
        return
    say(ready)
    for line in sys.stdin:
        walks()
        walked = [walks() for _ in range(int(line))]
        for one in walked:
            one.pop("scores")
        say({"walks": walked, **memory()})


def memory() -> dict[str, float | None]:
    """Return resident memory now and at its peak, in MB (10^6 bytes); None where not known."""
    file = Path("/proc/self/status")
    if file.is_file():
        said = dict(line.split(":", 1) for line in file.read_text().splitlines())
        now, peak = (int(said[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
        return {"resident_MB": now, "peak_MB": peak}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return {"resident_MB": None, "peak_MB": most}


def _open(job: dict[str, Any]) -> tuple[Callable[[], dict[str, Any]], dict[str, Any]]:
    """Return what walks the episode once, and what opening it took."""
    clock = time.perf_counter()
    _import(job["engine"])
    imported = time.perf_counter()
    engine = _engine(job)
    opened = time.perf_counter()
    walks = _walker(engine, job)
    first = walks()
    scores, warmed = first.pop("scores"), time.perf_counter()
    for _ in range(_WARM - 1):
        walks()
    more: dict[str, Any] = {}
    if hasattr(scores[0], "gates"):
        more["flops"] = [score.flops for score in scores]
        more["units_run"] = [int(score.gates.sum()) for score in scores]
    return walks, {
        **more,
        "import_s": imported - clock,
        "open_s": opened - imported,
        "first_s": warmed - opened,
        "chances": [_said(score).tolist() for score in scores],
        "open": [len(getattr(score, "choices", ())) for score in scores],
        "torch": "torch" in sys.modules,
    }


def _import(engine: str) -> None:
    if engine.startswith("torch"):
        import sterna.edge.bench.torch_engine
        import sterna.models.pretrained
    else:
        import onnxruntime  # noqa: F401

        import sterna.edge.runtime  # noqa: F401


def _engine(job: dict[str, Any]) -> Any:
    folder, name, threads = Path(job["folder"]), job["engine"], job["threads"]
    if not name.startswith("torch"):
        from sterna.edge.runtime import Engine
        from sterna.edge.runtime.actor import Actor
        from sterna.edge.runtime.folder import ACTOR, NAVIGATOR, kind_of

        kind = kind_of(folder)
        if kind == NAVIGATOR:
            from sterna.edge.runtime.answerer import Answerer

            return Answerer.open(folder, name, threads=threads, rho=job.get("rho"))
        opener = Actor.open if kind == ACTOR else Engine.open
        return opener(folder, name, threads=threads, rho=job.get("rho"))
    from sterna.edge.bench.routed_saved import TorchActor, is_navigator, is_vla, open_duet
    from sterna.edge.bench.torch_engine import TorchEngine

    if is_navigator(folder):
        from sterna.edge.bench.routed_saved import open_answerer

        return open_answerer(folder, threads=threads)
    if is_vla(folder):
        return TorchActor(folder, threads=threads)
    model, routed = open_duet(folder)
    compiled = name == "torch-compile"
    return TorchEngine(model, threads=threads, compiled=compiled, routed=routed)


def _said(score: Any) -> Any:
    """Return what an engine said at a step: chances, or a chunk of actions in a row."""
    return score.actions.ravel() if hasattr(score, "actions") else score.probabilities


def _walker(engine: Any, job: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    from sterna.edge.bench.episode import Shape, observations, word_ids
    from sterna.edge.runtime import Navigator
    from sterna.edge.runtime.actor import Actor

    shape = Shape(**job["shape"])
    if isinstance(engine, Actor):
        return _acts(engine, shape)
    if hasattr(engine, "see"):
        return _asks(engine, shape)
    ids = word_ids(shape, int(engine.manifest.sizes["vocab_size"]))
    seen = observations(shape, engine.feature_size, engine.object_size)
    navigator = Navigator(engine, max_steps=shape.steps)

    return _clocked(lambda: navigator.start(ids), [partial(navigator.score, one) for one in seen])


def _acts(actor: Any, shape: Any) -> Callable[[], dict[str, Any]]:
    """Return what lets a policy act through an episode: frames one after the other."""
    from sterna.edge.bench.frames import frames_of

    sentence, seen = frames_of(shape, actor.inputs, actor.sizes)
    return _clocked(lambda: actor.start(sentence), [partial(actor.step, **one) for one in seen])


def _asks(answerer: Any, shape: Any) -> Callable[[], dict[str, Any]]:
    """Return what lets a navigator answer along a walk: the frames since it last did, and then."""
    from sterna.edge.bench.frames import walk_of

    instruction, frames, taken, stops = walk_of(shape, answerer.size)
    seen: list[Any] = []

    def step(stop: int) -> Any:
        seen.extend(answerer.look(frames[len(seen) : stop + 1]))
        return answerer.answer(instruction, seen, taken[:stop])

    return _clocked(seen.clear, [partial(step, stop) for stop in stops])


def _clocked(
    begin: Callable[[], Any], steps: Sequence[Callable[[], Any]]
) -> Callable[[], dict[str, Any]]:
    """Return what walks an episode once, and says what that took."""

    def walk() -> dict[str, Any]:
        cpu, marks = time.process_time(), [time.perf_counter()]
        begin()
        marks.append(time.perf_counter())
        scores = []
        for step in steps:
            scores.append(step())
            marks.append(time.perf_counter())
        took = [end - start for start, end in pairwise(marks)]
        return {
            "episode": marks[-1] - marks[0],
            "cpu": time.process_time() - cpu,
            "text": took[0],
            "steps": took[1:],
            "scores": scores,
        }

    return walk


def main() -> None:
    """Read the job from the command line; standard output carries answers and nothing else."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=channel, flush=True)

    serve(json.loads(sys.argv[1]), say)


if __name__ == "__main__":
    main()
