"""RxR, SOON and NDH in the toy houses: files made to the publishers' schemas, from R2R's paths.

The real files are not here. Fields and their types are those that the publishers' READMEs and
code say (RxR's README; CVDN's tasks/NDH/data/README.md and a published val_unseen.json; SOON's
utils.py, env.py and eval.py).
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
from itertools import count
from pathlib import Path
from typing import Any

from sterna.files import read_json
from sterna.world.graph import NavGraph, load_graph

LANGUAGES = ("en-US", "hi-IN", "te-IN", "en-IN")
WORDS = {"hi-IN": "लाल कुर्सी के पास रुकिए", "te-IN": "ఎర్ర కుర్చీ దగ్గర ఆగండి"}
SPLITS = ("train", "val_seen", "val_unseen")
SOON_SPLITS = {"train": "train", "val_seen": "val_unseen_instrs", "val_unseen": "val_unseen_house"}
Entry = dict[str, Any]


def write_toy_tasks(house: Path, root: Path, paths: int = 40) -> Path:
    """Copy a toy house and add RxR, SOON and NDH files of the first paths of each split."""
    shutil.copytree(house, root)
    numbers = count(1)
    for split in SPLITS:
        rows = read_json(root / "r2r" / f"R2R_{split}.json")[:paths]
        graphs = {r["scan"]: load_graph(root / "connectivity", r["scan"]) for r in rows}
        guides = [guide(row, j, split, next(numbers)) for row in rows for j in range(3)]
        lines(root / "rxr" / f"rxr_{split}_guide.jsonl.gz", guides)
        followers = [follower(g, n) for n, g in enumerate(guides)]
        lines(root / "rxr" / f"rxr_{split}_follower.jsonl.gz", followers)
        ndh = [instance(row, n, graphs[row["scan"]]) for n, row in enumerate(rows)]
        write(root / "ndh" / f"{split}.json", ndh)
        soon = [target(row, graphs[row["scan"]]) for row in rows]
        write(root / "soon" / f"{SOON_SPLITS[split]}.json", soon)
    answered = ("path_id", "timed_instruction", "edit_distance")
    public = [
        {k: v for k, v in g.items() if k not in answered} | {"path": g["path"][:1]} for g in guides
    ]
    lines(root / "rxr" / "rxr_test_standard_public_guide.jsonl.gz", public)
    asked = ("inst_idx", "scan", "target", "start_pano", "nav_camera", "dialog_history")
    asked += ("nav_history",)
    write(root / "ndh" / "test_cleaned.json", [{k: i[k] for k in asked} for i in ndh])
    write(root / "soon" / "test.json", [question(n, item) for n, item in enumerate(soon)])
    return root


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def lines(path: Path, values: list[Entry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def guide(row: Entry, j: int, split: str, number: int) -> Entry:
    language = LANGUAGES[number % 4]
    text = WORDS.get(language, row["instructions"][j])
    timed: list[Entry] = [
        {"word": word, "start_time": 0.4 * n, "end_time": 0.4 * n + 0.3}
        for n, word in enumerate(text.split())
    ]
    del timed[-1]["start_time"], timed[-1]["end_time"]  # as a small number of words are
    return {
        "path_id": row["path_id"],
        "split": split,
        "scan": row["scan"],
        "heading": row["heading"],
        "path": row["path"],
        "instruction_id": number,
        "annotator_id": number % 7,
        "language": language,
        "instruction": text,
        "timed_instruction": timed,
        "edit_distance": 0.125,
    }


def follower(guided: Entry, number: int) -> Entry:
    """It goes back once, then along the guide's path; every fourth stops one step short."""
    path = guided["path"]
    walked = [*path[:2], *path[: len(path) - (number % 4 == 3)]]
    return {
        "demonstration_id": 5000 + number,
        "instruction_id": guided["instruction_id"],
        "annotator_id": 40,
        "path": walked,
        "metrics": {"ne": 0.0, "sr": 1.0, "spl": 0.5, "dtw": 1.0, "ndtw": 0.9, "sdtw": 0.9},
    }


def instance(row: Entry, n: int, graph: NavGraph) -> Entry:
    path = row["path"]
    goal = graph.index(path[-1])
    region = [path[-1], *(graph.viewpoints[i] for i in graph.neighbours(goal)[:1])]
    planner = path[:1] if n % 11 == 10 else path[:6]
    player = path[:2] if n % 3 == 2 else path
    if n % 11 == 10:
        player = path[:1]
    text = row["instructions"][0]
    pose = {"heading": row["heading"], "elevation": 17.25, "pano": path[0]}
    turns = [("navigator", "where to ?", 0), ("oracle", text, 0), ("navigator", "and now ?", 3)]
    turns.append(("oracle", "go straight", 3))
    dialog = [{"nav_idx": at, "role": r, "message": m} for r, m, at in turns[: 2 * (n % 3)]]
    return {
        "R2R_success": 1,
        "R2R_spl": 0.5,
        "R2R_oracle_success": 1,
        "R2R_oracle_spl": 0.5,
        "oracle_game_quality": 5,
        "oracle_avg_quality": 4.5,
        "navigator_game_quality": 5,
        "navigator_avg_quality": 4.4,
        "dialog_history": dialog,
        "planner_path": planner,
        "player_path": player,
        "end_panos": region,
        "nav_history": [path[1], path[0]],
        "game_idx": n // 2,
        "target": "chair",
        "inst_idx": 100 + n,
        "scan": row["scan"],
        "start_pano": pose,
        "nav_camera": [pose, pose | {"heading": 0.5}],
    }


def target(row: Entry, graph: NavGraph) -> Entry:
    """Two paths to one target, which is seen from the end and from one place beside it."""
    path = row["path"]
    goal = graph.index(path[-1])
    beside = int(graph.neighbours(goal)[0])
    other = next(i for i in range(len(graph)) if len(graph.shortest_path(i, goal)) >= 3)
    second = [graph.viewpoints[i] for i in graph.shortest_path(other, goal)]
    full = row["instructions"][0]
    parts = ["it is red", "beside a lamp", "in the hall", "behind the stairs"]
    return {
        "path": [path, second],
        "instructions": [[*parts, full], [*parts, row["instructions"][1]]],
        "bboxes": [box(row["scan"], graph.viewpoints[i], 0.5 + i % 5) for i in (goal, beside)],
    }


def box(scan: str, viewpoint: str, heading: float) -> Entry:
    def at(right: float, up: float) -> Entry:
        return {"heading": heading + right, "elevation": -0.1 + up}

    corners = {"left_top": at(-0.2, 0.15), "right_top": at(0.2, 0.1), "center": at(0.0, 0.0)}
    corners |= {"right_bottom": at(0.25, -0.15), "left_bottom": at(-0.2, -0.1)}
    return {
        "scan": scan,
        "image_id": viewpoint,
        "obj_name": "chair",
        "heading": heading % (2 * math.pi),
        "elevation": -0.1,
        "target": corners,
        "mouse_left_top": {"x": 10, "y": 20},
        "mouse_right_bottom": {"x": 60, "y": 90},
    }


def question(number: int, item: Entry) -> Entry:
    """A target of a test split: starts alone, and a number for each instruction."""
    return {
        "instr_id": number,
        "scan": item["bboxes"][0]["scan"],
        "path": [path[:1] for path in item["path"]],
        "instructions": item["instructions"][0],
    }
