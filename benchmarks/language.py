"""Put the houses' instructions beside R2R's and REVERIE's: length, words, verbs, landmarks.

Vocabulary is counted on equally many instructions (the first of each file). Landmarks are those of
the houses' own words, so that both columns count the same.

Usage: python benchmarks/language.py [--houses 10] [--paths 20] [--data DIR] [--json]
R2R and REVERIE are read from --data, else STERNA_DATA; without either, the houses stand alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.r2r import read_r2r
from sterna.data.reverie import read_reverie
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.language import HouseMap, make_episodes, make_errands
from sterna.world.houses.language.lexicon import NOUNS, ROOMS
from sterna.world.houses.objects import KINDS
from sterna.world.houses.viewpoints import place_viewpoints

VERBS = (
    "walk", "go", "turn", "exit", "leave", "enter", "stop", "wait", "head", "take", "pass",
    "continue", "make", "move", "step", "stand", "climb", "bring", "clean", "open", "dust",
    "wipe", "pick", "get", "water", "find", "proceed",
)  # fmt: skip
WAYS = ("left", "right", "straight", "around", "past", "between", "through", "up", "down",
        "first", "second", "third", "door", "doorway", "stairs")  # fmt: skip
ROOM_WORDS = sorted({w for words in ROOMS.values() for w in words} | {"hall"})
THING_WORDS = sorted({w for k in KINDS for w in (*NOUNS.get(k, ()), k)} | {"window", "table"})
COLOUR_WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black",
                "white", "gray", "grey", "beige")  # fmt: skip


def made(houses: int, paths: int) -> tuple[list[str], list[str], dict[str, float]]:
    """Return step-by-step and goal-only instructions of the first houses, and what they took."""
    steps, errands, tried = [], [], 0.0
    for seed in range(houses):
        house = make_house(seed)
        viewpoints = place_viewpoints(house, ground_of(house))
        start = time.process_time()
        known = HouseMap(house, viewpoints)
        steps += [t for e in make_episodes(known, paths) for t in e.instructions]
        errands += [t for e in make_errands(known, paths) for t in e.instructions]
        tried += time.process_time() - start
    return steps, errands, {"cpu_s_a_house": round(tried / houses, 2)}


def statistics(texts: list[str], count: int) -> dict[str, Any]:
    """Return the figures of a list of instructions; vocabulary on the first `count`."""
    words = [re.findall(r"[a-z0-9']+", text.lower()) for text in texts]
    lengths = np.array([len(w) for w in words])
    sentences = [max(1, len(re.findall(r"[.!?]+(?:\s|$)", text))) for text in texts]
    tokens = Counter(word for w in words for word in w)

    def share(vocabulary: tuple[str, ...] | list[str]) -> dict[str, float]:
        return {w: round(tokens[w] / len(texts), 3) for w in vocabulary if tokens[w]}

    def named(vocabulary: list[str]) -> Counter[str]:
        pattern = re.compile(
            r"\b(" + "|".join(sorted(vocabulary, key=len, reverse=True)) + r")s?\b"
        )
        return Counter(m for text in texts for m in pattern.findall(text.lower()))

    rooms, things = named(ROOM_WORDS), named([t.lower() for t in THING_WORDS])
    return {
        "instructions": len(texts),
        "words_mean": round(float(lengths.mean()), 1),
        "words_sd": round(float(lengths.std()), 1),
        "words_5_50_95": np.percentile(lengths, [5, 50, 95]).round().astype(int).tolist(),
        "sentences_mean": round(float(np.mean(sentences)), 2),
        "vocabulary": len({word for w in words[:count] for word in w}),
        "rooms_mean": round(sum(rooms.values()) / len(texts), 2),
        "things_mean": round(sum(things.values()) / len(texts), 2),
        "colours_mean": round(sum(tokens[c] for c in COLOUR_WORDS) / len(texts), 2),
        "verbs": share(VERBS),
        "ways": share(WAYS),
        "rooms": {w: round(n / len(texts), 3) for w, n in rooms.most_common(8)},
        "things": {w: round(n / len(texts), 3) for w, n in things.most_common(12)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--houses", type=int, default=10)
    parser.add_argument("--paths", type=int, default=20)
    parser.add_argument("--data", default=os.environ.get("STERNA_DATA"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    steps, errands, cost = made(args.houses, args.paths)
    columns = {"houses, steps": steps, "houses, errands": errands}
    if args.data and Path(args.data).is_dir():
        columns["R2R"] = [e.instruction for e in read_r2r(args.data, "train")]
        columns["REVERIE"] = [e.instruction for e in read_reverie(args.data, "train")]
    count = min(map(len, columns.values()))
    table = {name: statistics(texts, count) for name, texts in columns.items()}
    if args.json:
        print(json.dumps({"columns": table, "cost": cost}))
        return
    print(f"{'':<16}" + "".join(f"{name:>18}" for name in table))
    for key in next(iter(table.values())):
        if not isinstance(next(iter(table.values()))[key], dict):
            print(f"{key:<16}" + "".join(f"{row[key]!s:>18}" for row in table.values()))
    for key in ("verbs", "ways", "rooms", "things"):
        for name, row in table.items():
            print(f"{key}, {name}: " + ", ".join(f"{w} {n}" for w, n in row[key].items()))
    print(cost)


if __name__ == "__main__":
    main()
