"""Time routed navigators beside their teacher along many recorded walks, in torch and exported.

`sterna bench latency` walks one walk, the longest; routed layers may open on others. Here every
n-th walk of a folder is walked by all arms in turn, an answer every three steps, frames since the
last one looked at together. Reported for each student and engine: how many times as fast as the
teacher in the same engine (sums over walks of the best of three), in how many answers it ran more
than the fewest layers seen, and whether its export said what it said in torch. One thread.

Usage: python benchmarks/answers.py --teacher deep --students act/full-0 --exports deep-edge edge-0
    --walks held [--every 3] [--rho 0.35] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.data.ego.store import EgoStore
from sterna.edge.asked_folder import TorchAnswerer
from sterna.edge.bench.frames import SPACING
from sterna.edge.runtime.answerer import Answered, Answerer, Asking
from sterna.models.navigator.folder import load
from sterna.recipes.asking import navigator_folder
from sterna.recipes.routed_export import open_routed

TIMES = 3


def main() -> None:
    """Walk, and say what that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--students", type=Path, nargs="+", required=True)
    parser.add_argument("--exports", type=Path, nargs="+", required=True, help="teacher, students")
    parser.add_argument("--walks", type=Path, required=True)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--rho", type=float, default=0.35)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if len(asked.exports) != 1 + len(asked.students):
        parser.error("--exports: give the teacher's and then one of each student")
    torch.set_num_threads(1)
    arms = _arms(asked)
    took: dict[str, list[float]] = {name: [] for name in arms}
    said: dict[str, list[Answered]] = {name: [] for name in arms}
    store = EgoStore(asked.walks)
    walks = store.episodes[:: asked.every]
    for walk in walks:
        frames = store.frames(np.arange(walk.first, walk.first + len(walk)))
        for name, arm in arms.items():
            said[name] += _walk(arm, walk, frames)[1]
            took[name].append(min(_walk(arm, walk, frames)[0] for _ in range(TIMES)))
    rows: list[dict[str, Any]] = []
    for number, student in enumerate(asked.students):
        alike = _actions(said[f"torch {number}"]) == _actions(said[f"onnx {number}"])
        for engine in ("torch", "onnx"):
            name = f"{engine} {number}"
            layers = np.array([int(one.gates.sum()) for one in said[name]])
            rows.append(
                {
                    "student": str(student),
                    "engine": engine,
                    "times_as_fast": sum(took[f"{engine} teacher"]) / sum(took[name]),
                    "walks": len(walks),
                    "answers": len(layers),
                    "more_layers": float((layers > layers.min()).mean()),
                    "export_says_the_same": alike,
                }
            )
    if asked.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            f"{row['student']} {row['engine']}: {row['times_as_fast']:.2f} times as fast; "
            f"{row['answers']} answers on {row['walks']} walks, more layers in "
            f"{100 * row['more_layers']:.1f}%, export alike: {row['export_says_the_same']}"
        )


def _arms(asked: argparse.Namespace) -> dict[str, Asking]:
    found = navigator_folder(asked.teacher)
    if found is None:
        raise SystemExit(f"{asked.teacher}: no navigator there")
    arms: dict[str, Asking] = {
        "torch teacher": TorchAnswerer(NavigatorStack(load(found))),
        "onnx teacher": Answerer.open(asked.exports[0]),
    }
    for number, folder in enumerate(asked.students):
        routed = open_routed(folder, asked.rho)
        assert isinstance(routed.stack, NavigatorStack)
        arms[f"torch {number}"] = TorchAnswerer(routed.stack, routed.router, routed.threshold)
        arms[f"onnx {number}"] = Answerer.open(asked.exports[1 + number], rho=asked.rho)
    return arms


def _walk(arm: Asking, walk: Any, frames: Any) -> tuple[float, list[Answered]]:
    seen: list[Any] = []
    out = []
    begun = time.perf_counter()
    for stop in range(0, len(walk), SPACING):
        seen += arm.look(frames[len(seen) : stop + 1])
        out.append(arm.answer(walk.instruction, seen, walk.taken[:stop].tolist()))
    return time.perf_counter() - begun, out


def _actions(said: list[Answered]) -> list[list[int]]:
    return [one.actions.tolist() for one in said]


if __name__ == "__main__":
    main()
