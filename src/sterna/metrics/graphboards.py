"""Submission files of the leaderboards on navigation graphs, written and read strictly.

* r2r (EvalAI 97), and tasks like it: a list of ``{"instr_id", "trajectory": [[viewpoint, heading,
  elevation], ...]}``, one triple a viewpoint, far jumps flattened.
* reverie (EvalAI 606): the same with the integer ``predObjId``, -1 where nothing was chosen.
* ndh (EvalAI 463): the same with the integer ``inst_idx`` in the place of ``instr_id``.
* soon (EvalAI 1275): a list of ``{"instr_id", "trajectory": [{"path": [[viewpoint, heading,
  elevation], ...], "obj_heading": [h], "obj_elevation": [e]}, ...]}``, one item an instruction of
  the file, with one walk from each of its starts; h and e are shares of a turn
  (`sterna.metrics.pointing`).
* rxr: one line of JSON an instruction, ``{"instruction_id", "path": [viewpoint, ...]}``.

Nobody reads the headings and elevations of walks; what is not known is written as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from sterna.data.episodes import Episode
from sterna.data.r2r import is_strings
from sterna.errors import InputError
from sterna.files import read_json, read_jsonl, write_json, write_jsonl
from sterna.metrics.pointing import to_shares
from sterna.metrics.submission import (
    Prediction,
    read_leaderboard,
    read_submission,
    steps_of,
    write_submission,
)

GraphBoard = Literal["r2r", "reverie", "ndh", "soon", "rxr"]


def board_file(board: GraphBoard, split: str) -> str:
    """Return the name of a submission file."""
    return f"submit_{split}.json" + ("l" if board == "rxr" else "")


def write_graph_board(
    path: str | Path,
    board: GraphBoard,
    predictions: Sequence[Prediction],
    episodes: Sequence[Episode],
) -> None:
    """Write predictions as a leaderboard takes them.

    `episodes` tell the names that it knows them by. `InputError` for an episode without such a
    name, and for a prediction that is no episode's.
    """
    if board in ("r2r", "reverie"):
        write_submission(path, predictions, objects=board == "reverie")
        return
    named = {episode.instr_id: episode for episode in episodes}
    stray = next((p.instr_id for p in predictions if p.instr_id not in named), None)
    if stray is not None:
        raise InputError(f"{path}: {stray[:60]!r} is no episode of this split")
    pairs = [(prediction, named[prediction.instr_id]) for prediction in predictions]
    if board == "rxr":
        items = [_rxr_item(prediction, episode) for prediction, episode in pairs]
        write_jsonl(path, sorted(items, key=lambda item: int(item["instruction_id"])))
    elif board == "ndh":
        write_json(path, [_ndh_item(prediction) for prediction, _ in pairs], indent=None)
    else:
        write_json(path, _soon_items(pairs), indent=None)


def read_graph_board(path: str | Path, board: GraphBoard) -> list[Prediction]:
    """Read a file that must be fit for a leaderboard: its format alone, nothing to guess.

    Names stand as in the file (`sterna.metrics.submission.renamed` brings them to the episodes').
    `InputError` names file, item and key.
    """
    if board in ("r2r", "reverie"):
        return read_leaderboard(path, objects=board == "reverie")
    lines = board == "rxr"
    if lines != str(path).removesuffix(".gz").endswith(".jsonl"):
        kind = "lines of JSON (.jsonl)" if lines else "one JSON list (.json)"
        raise InputError(f"{path}: the leaderboard of {board} takes {kind}")
    content = [value for _, value in read_jsonl(path)] if lines else read_json(path)
    if not isinstance(content, list) or not content:
        raise InputError(f"{path}: expected a list of walks, found none")
    for number, item in enumerate(content):
        _CHECKS[board](item, f"{path}: item {number}")
    return read_submission(path)


def _rxr_item(prediction: Prediction, episode: Episode) -> dict[str, Any]:
    name = episode.instruction_id
    if name is None or not name.isdecimal():
        raise InputError(
            f"episode {episode.instr_id}: instruction_id is {name!r}; RxR numbers its instructions"
        )
    path = [viewpoint for viewpoint, _ in groupby(prediction.path)]
    return {"instruction_id": int(name), "path": path}


def _ndh_item(prediction: Prediction) -> dict[str, Any]:
    if not prediction.instr_id.removeprefix("-").isdecimal():
        raise InputError(f"episode {prediction.instr_id[:60]!r}: NDH numbers its instances")
    return {"inst_idx": int(prediction.instr_id), "trajectory": steps_of(prediction)}


def _soon_items(pairs: Iterable[tuple[Prediction, Episode]]) -> list[dict[str, Any]]:
    items: dict[str, dict[str, Any]] = {}
    for prediction, episode in pairs:
        name = episode.instruction_id or episode.instr_id
        heading, elevation = to_shares(prediction.direction or (0.0, 0.0))
        walk = {
            "path": steps_of(prediction),
            "obj_heading": [heading],
            "obj_elevation": [elevation],
        }
        number: int | str = int(name) if name.isdecimal() else name
        items.setdefault(name, {"instr_id": number, "trajectory": []})["trajectory"].append(walk)
    return list(items.values())


def _check_rxr(item: Any, place: str) -> None:
    _check_keys(item, place, ("instruction_id", "path"))
    number, path = item["instruction_id"], item["path"]
    if type(number) is not int:
        raise InputError(f"{place}: instruction_id must be a whole number, found {number!r:.40}")
    if not path or not is_strings(path):
        raise InputError(
            f"{place} (instruction {number}): path must be a list of viewpoint ids, start first"
        )


def _check_ndh(item: Any, place: str) -> None:
    _check_keys(item, place, ("inst_idx", "trajectory"))
    if type(item["inst_idx"]) is not int:
        raise InputError(
            f"{place}: inst_idx must be a whole number, found {item['inst_idx']!r:.40}"
        )
    _check_steps(item["trajectory"], f"{place} (instance {item['inst_idx']}): trajectory")


def _check_soon(item: Any, place: str) -> None:
    _check_keys(item, place, ("instr_id", "trajectory"))
    name, walks = item["instr_id"], item["trajectory"]
    if type(name) not in (int, str):
        raise InputError(f"{place}: instr_id must be that of the file, found {name!r:.40}")
    place = f"{place} ({name!r:.40})"
    if not isinstance(walks, list) or not walks or not isinstance(walks[0], dict):
        raise InputError(
            f"{place}: trajectory must be a list of walks, one a start, each an object of path, "
            "obj_heading and obj_elevation"
        )
    for number, walk in enumerate(walks):
        inner = f"{place}: walk {number}"
        _check_keys(walk, inner, ("path", "obj_heading", "obj_elevation"))
        _check_steps(walk["path"], f"{inner}: path")
        for key in ("obj_heading", "obj_elevation"):
            if not _is_share(walk[key]):
                raise InputError(
                    f"{inner}: {key} must be a list of one number from 0 to 1, the share of a turn"
                )


def _check_keys(item: Any, place: str, keys: Sequence[str]) -> None:
    found = sorted(item) if isinstance(item, dict) else [type(item).__name__]
    if found != sorted(keys):
        raise InputError(f"{place}: expected {' and '.join(keys)} alone, found {str(found)[:100]}")


def _check_steps(steps: Any, place: str) -> None:
    good = isinstance(steps, list) and bool(steps)
    if not good or not all(isinstance(s, list) and len(s) == 3 and _is_step(s) for s in steps):
        raise InputError(
            f"{place} must be a list of [viewpoint, heading, elevation], one triple a viewpoint"
        )


def _is_step(step: Sequence[Any]) -> bool:
    return is_strings([step[0]]) and _is_number(step[1]) and _is_number(step[2])


def _is_share(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 1 and _is_number(value[0]) and 0 <= value[0] <= 1
    )


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e300


_CHECKS: Mapping[str, Callable[[Any, str], None]] = {
    "rxr": _check_rxr,
    "ndh": _check_ndh,
    "soon": _check_soon,
}
