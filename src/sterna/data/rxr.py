"""Room-Across-Room annotations (Ku et al., EMNLP 2020): guides and followers, read and written.

One line of JSON (``.jsonl.gz``) is one annotation. A guide's is an instruction with its path:
``split, instruction_id, annotator_id, language, path_id, scan, path, heading, instruction,
timed_instruction, edit_distance``; test splits have the start alone and no ``path_id``. A
follower's is another path for a guide's instruction: ``demonstration_id, instruction_id,
annotator_id, path, metrics``. Languages are en-IN, en-US, hi-IN, te-IN. Pose traces and text
features lie in folders beside and are not needed. HAMT's files add ``instr_encoding``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.r2r import Entry, check_field, is_finite, is_name, is_strings, is_whole
from sterna.data.rest import rest_fields, rest_of
from sterna.errors import InputError
from sterna.files import find_file, read_jsonl, write_jsonl

Role = Literal["guide", "follower"]

_READ = {
    "guide": (
        *("split", "instruction_id", "language", "path_id", "scan", "path", "heading"),
        *("instruction", "instr_encoding"),
    ),
    "follower": ("demonstration_id", "instruction_id", "path"),
}
_UNUSED = ("annotator_id", "timed_instruction", "edit_distance", "metrics")


def read_rxr(
    source: str | os.PathLike[str],
    split: str | None = None,
    *,
    role: Role = "guide",
    languages: Sequence[str] = (),
    whole: bool = False,
    guide: str | os.PathLike[str] | None = None,
) -> list[Episode]:
    """Read episodes in file order; `source` is a file, or a data folder together with `split`.

    ``instr_id`` is ``{path_id}_{instruction_id}`` (test splits: ``{instruction_id}``; followers:
    with ``_{demonstration_id}`` behind). `languages` keeps those whose tag begins with one of them
    (en, hi-IN, ...). A follower's episode has its guide's instruction and heading; `guide` names
    the guides' file (default: beside, or in the data folder). `whole` keeps what is not used here
    too (timed words are most of a file) in ``Episode.rest``. Raises `InputError` naming file, line
    and field, and for languages nobody speaks here.
    """
    if role not in get_args(Role):
        raise InputError(f"RxR: role must be guide or follower, found {role!r}")
    file = _file(source, split, role)
    if role == "guide":
        episodes = _guides(file, split, whole)
    else:
        lead = _file(source, split, "guide") if guide is None else Path(guide)
        episodes = _followers(file, _guides(lead, split, whole=False), lead, whole)
    _check_ids(episodes, file)
    return _speaking(episodes, tuple(languages), file)


def write_rxr(path: str | os.PathLike[str], episodes: Iterable[Episode]) -> None:
    """Write annotations of one role as the publisher's lines (gzipped where the name ends in .gz).

    Reading a file with `whole` and writing it gives equal values. `InputError` for an episode that
    has no number of an instruction, and where guides and followers are mixed.
    """
    lines, roles = [], set()
    for episode in episodes:
        roles.add(episode.role)
        lines.append(_follower_line(episode) if episode.role == "follower" else _line(episode))
    if len(roles) > 1:
        raise InputError(f"{path}: guides and followers stand in files of their own")
    write_jsonl(path, lines)


def _file(source: str | os.PathLike[str], split: str | None, role: Role) -> Path:
    path = Path(source)
    if path.is_dir():
        if split is None:
            raise InputError(f"{path}: is a folder; name the split to read (train, val_seen, ...)")
        return Layout(path).rxr(split, role)
    if role == "guide" and "follower" in path.name:
        return find_file(path.with_name(path.name.replace("follower", "guide")))
    return path


def _guides(file: Path, split: str | None, whole: bool) -> list[Episode]:
    known = (*_READ["guide"], *(() if whole else _UNUSED))
    return [_guide(entry, f"{file}: line {n}", split, known) for n, entry in read_jsonl(file)]


def _guide(entry: Any, where: str, split: str | None, known: Sequence[str]) -> Episode:
    _check_guide(entry, where)
    number, path_id = entry["instruction_id"], entry.get("path_id")
    tokens = entry.get("instr_encoding")
    return Episode(
        instr_id=f"{number}" if path_id is None else f"{path_id}_{number}",
        scan=entry["scan"],
        path=tuple(entry["path"]),
        heading=float(entry["heading"]),
        instruction=entry["instruction"],
        path_id=f"{number}" if path_id is None else path_id,
        split=entry.get("split", split),
        token_ids=None if tokens is None else tuple(tokens),
        language=entry["language"],
        instruction_id=f"{number}",
        role="guide",
        rest=rest_of(entry, known),
    )


def _check_guide(entry: Any, where: str) -> None:
    _check_shared(entry, where)
    get = entry.get
    check_field(entry, "scan", where, is_name(get("scan")), "a name of letters, digits, _ - + .")
    check_field(entry, "heading", where, is_finite(get("heading")), "finite radians")
    check_field(entry, "instruction", where, isinstance(get("instruction"), str), "a text")
    check_field(entry, "language", where, is_name(get("language")), "a tag such as en-IN or hi-IN")
    if "path_id" in entry:
        check_field(entry, "path_id", where, is_whole(get("path_id")), "a whole number")
    if "split" in entry:
        check_field(entry, "split", where, is_name(get("split")), "the name of a split")
    tokens = get("instr_encoding", [])
    good = isinstance(tokens, list) and all(type(i) is int and i >= 0 for i in tokens)
    check_field(entry, "instr_encoding", where, good, "a list of word ids")


def _check_shared(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected one annotation (a JSON object) a line")
    number, path = entry.get("instruction_id"), entry.get("path")
    check_field(entry, "instruction_id", where, is_whole(number), "a whole number")
    check_field(entry, "path", where, path and is_strings(path), "a list of viewpoint ids")


def _followers(file: Path, guides: Sequence[Episode], lead: Path, whole: bool) -> list[Episode]:
    named = {episode.instruction_id: episode for episode in guides}
    known = (*_READ["follower"], *(() if whole else _UNUSED))
    episodes = []
    for n, entry in read_jsonl(file):
        where = f"{file}: line {n}"
        _check_shared(entry, where)
        number = entry.get("demonstration_id")
        check_field(entry, "demonstration_id", where, is_whole(number), "a whole number")
        followed = named.get(str(entry["instruction_id"]))
        if followed is None:
            raise InputError(
                f"{where}: instruction_id {entry['instruction_id']} is no guide's in {lead}; both "
                "files must be of one split"
            )
        fields = vars(followed) | {
            "instr_id": f"{followed.instr_id}_{number}",
            "path": tuple(entry["path"]),
            "role": "follower",
            "demonstration_id": number,
            "rest": rest_of(entry, known),
        }
        episodes.append(Episode(**fields))
    return episodes


def _check_ids(episodes: Iterable[Episode], file: Path) -> None:
    seen: set[str] = set()
    for episode in episodes:
        if episode.instr_id in seen:
            raise InputError(f"{file}: instr_id {episode.instr_id} occurs twice; ids must differ")
        seen.add(episode.instr_id)


def _speaking(episodes: list[Episode], languages: tuple[str, ...], file: Path) -> list[Episode]:
    if not languages:
        return episodes
    kept = [e for e in episodes if str(e.language).startswith(languages)]
    if not kept:
        spoken = ", ".join(sorted({str(episode.language) for episode in episodes})) or "none"
        raise InputError(f"{file}: no episode in {', '.join(languages)}; it holds {spoken}")
    return kept


def _number(episode: Episode) -> int:
    name = episode.instruction_id
    if name is None or not name.isdecimal() or episode.language is None:
        raise InputError(
            f"episode {episode.instr_id}: instruction_id is {name!r}, language {episode.language!r}"
            "; RxR numbers its instructions and says their language (such as en-US)"
        )
    return int(name)


def _line(episode: Episode) -> Entry:
    number = _number(episode)
    entry: Entry = {} if isinstance(episode.path_id, str) else {"path_id": episode.path_id}
    if episode.split is not None:
        entry["split"] = episode.split
    entry |= {"scan": episode.scan, "heading": episode.heading, "path": list(episode.path)}
    entry |= {"instruction_id": number, "language": episode.language}
    entry["instruction"] = episode.instruction
    if episode.token_ids is not None:
        entry["instr_encoding"] = list(episode.token_ids)
    return entry | rest_fields(episode)


def _follower_line(episode: Episode) -> Entry:
    entry = {
        "demonstration_id": episode.demonstration_id,
        "instruction_id": _number(episode),
        "path": list(episode.path),
    }
    return entry | rest_fields(episode)
