"""`sterna eval`, `score` and `models`: walk a split, score a file, list presets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.recipes.options import Common

GraphTask = Literal["r2r", "r4r", "reverie", "reverie-v2", "rxr", "soon", "ndh"]
_DATA_SET = tyro.conf.arg(aliases=["--data-set"])


@dataclass(frozen=True, kw_only=True)
class Eval(Common):
    """Walk a split with a saved policy and score it; controls: --permute, --blind.

    In continuous space: sterna eval --env house (or habitat); its options: sterna eval --env house
    --help.
    """

    policy: tyro.conf.Positional[Path]
    """Run folder (its best weights), saved policy, hf:owner/name of the Hub, or exported folder
    (with --engine)."""
    split: str = "val_unseen"
    """Split to walk."""
    task: Annotated[GraphTask | None, _DATA_SET] = None
    """Data set to walk (default: that of the policy's run). soon: its splits are val_unseen_house
    and val_unseen_instrs; rxr: its tests are test_standard and test_challenge."""
    language: tuple[str, ...] = ()
    """RxR: only episodes in these languages (en, hi, te, or such as en-IN)."""
    role: Literal["guide", "follower"] | None = None
    """RxR: paths of guides (default), or of followers."""
    engine: Literal["torch", "onnx", "onnx-int8", "onnx-static", "onnx-static-int8"] = "torch"
    """What computes: torch for a saved policy, the others for an exported folder."""
    workers: int | None = None
    """With ONNX: processes that share the episodes (default: cores / threads, one thread each)."""
    views: str | None = None
    """View store; default: the one of the policy's run."""
    objects: str | None = None
    """Objects (REVERIE): names, none or a file; default: those of the policy's run."""
    protocol: str | None = None
    """Scoring protocol by name (default: DUET's evaluator of the task; RXR_OFFICIAL, SOON_OFFICIAL,
    NDH_TRUSTED). NDH_PLANNER, NDH_PLAYER: the other paths; RXR_DUET, NDH_HAMT: their formulas."""
    permute: bool = False
    """Control: every episode gets another episode's instruction."""
    blind: bool = False
    """Control: view features are zeros."""
    batch_size: int = 64
    """Episodes walked side by side; the scores do not depend on it."""
    episodes: int | None = None
    """Walk every k-th episode, about this many."""
    submit: bool = False
    """Write the submission alone, unscored: for a split without answers (test)."""
    out: Path | None = None
    """Folder for result_SPLIT.json and submit_SPLIT.json (default: beside the policy)."""


def evaluate(argv: Sequence[str]) -> int:
    """Walk a split with a saved policy and score it; with --env in continuous space."""
    if any(word == "--env" or word.startswith("--env=") for word in argv):
        from sterna.commands.continuous import evaluate_env

        return evaluate_env(argv)
    from sterna.metrics import format_result
    from sterna.recipes.evaluation import Power, run_eval, run_submit
    from sterna.recipes.options import use_threads

    args: Eval = parse(Eval, argv, "eval")
    use_threads(args.threads)
    power = Power(engine=args.engine, workers=args.workers, threads=args.threads or 1)
    root, out = find_data(args.data), args.out or _beside(args.policy) / _eval_folder(args)
    if args.submit:
        file = run_submit(
            args.policy,
            root,
            args.split,
            out,
            views=args.views,
            objects=args.objects,
            data=_changes(args),
            batch_size=args.batch_size,
            power=power,
        )
        say(f"submission: {file}", {"out": str(out), "submission": str(file)}, args.json)
        return 0
    result = run_eval(
        args.policy,
        root,
        args.split,
        views=args.views,
        objects=args.objects,
        protocol=args.protocol,
        data=_changes(args),
        permute=args.permute,
        blind=args.blind,
        batch_size=args.batch_size,
        about=args.episodes,
        out=out,
        power=power,
    )
    text = f"{format_result(result)}\nresult and submission: {out}"
    say(text, _summary(result) | {"out": str(out)}, args.json)
    return 0


def _beside(policy: Path) -> Path:
    """Return where results go: beside the policy; of one of the Hub, a folder of its name here."""
    from sterna.models.hub import PREFIX

    name = str(policy)
    if not name.startswith(PREFIX):
        return policy
    return Path(name.removeprefix(PREFIX).partition("@")[0].replace("/", "--"))


def _changes(args: Eval) -> dict[str, Any]:
    """Return the settings of the policy's data that are others here."""
    from sterna.metrics import find_protocol

    given: dict[str, Any] = {"task": args.task, "languages": args.language, "role": args.role}
    if args.protocol is not None:
        given["path_type"] = find_protocol(args.protocol).path_type
    return {name: value for name, value in given.items() if value}


def _eval_folder(args: Eval) -> str:
    """Name a folder such that controls, parts and other protocols do not overwrite the result."""
    name = (
        "eval"
        + f"-{args.task}" * (args.task is not None)
        + "".join(f"-{name}" for name in args.language)
        + "-follower" * (args.role == "follower")
        + f"-{args.engine}" * (args.engine != "torch")
        + "-permuted" * args.permute
        + "-blind" * args.blind
    )
    return name + "-part" * (args.episodes is not None) + f"-{args.protocol}" * bool(args.protocol)


def _summary(result: Any) -> dict[str, Any]:
    values: dict[str, Any] = result.to_dict()
    values.pop("per_episode", None)
    return values


@dataclass(frozen=True, kw_only=True)
class Score(Common):
    """Score any trajectory file: leaderboard submissions, NaviLLM's records, tracks."""

    file: tyro.conf.Positional[Path]
    """The file (JSON, may be gzipped)."""
    split: str = "val_unseen"
    """Split whose annotations answer it."""
    task: Annotated[
        Literal["r2r", "r4r", "reverie", "reverie-v2", "rxr", "soon", "ndh", "vlnce", "rxr-ce"],
        _DATA_SET,
    ] = "r2r"
    """Annotations to read; vlnce and rxr-ce: tracks (.jsonl) of `sterna eval --env`."""
    language: tuple[str, ...] = ()
    """RxR, RxR-CE: only episodes in these languages (en, hi, te, or such as en-IN)."""
    role: Literal["guide", "follower"] = "guide"
    """RxR, RxR-CE: whose paths answer."""
    release: str | None = None
    """VLN-CE: release of the episodes, such as v1-2 (default: the newest in the data folder)."""
    episodes: Path | None = None
    """Episode file of VLN-CE or RxR-CE to read instead of the data folder's."""
    protocol: str | None = None
    """R2R_DUET, REVERIE_DUET, ... (default): SPL over the annotated path; R2R_MATTERSIM,
    REVERIE_OFFICIAL: over the shortest path. RxR: RXR_OFFICIAL (default), RXR_DUET. NDH:
    NDH_TRUSTED (default), NDH_PLANNER, NDH_PLAYER, NDH_HAMT. Tracks: their own."""
    skip_unscorable: bool = False
    """Tracks: leave episodes out that have no finite score, and name them in the result."""
    partial: bool = False
    """Accept a file that answers only some episodes."""
    validate: bool = False
    """Only check that the leaderboard can take the file; serves test splits too."""
    out: Path | None = None
    """Write the result file here."""
    per_episode: bool = False
    """With --json: include the table of every episode."""


def score(argv: Sequence[str]) -> int:
    """Score a file."""
    from sterna.data.layout import Layout
    from sterna.metrics import find_protocol, score_file, write_result
    from sterna.recipes.answers import PROTOCOL_OF_TASK, Which, check_file, read_answers

    args: Score = parse(Score, argv, "score")
    if args.task in ("vlnce", "rxr-ce"):
        return _score_tracks(args)
    layout = Layout(find_data(args.data))
    protocol = find_protocol(args.protocol or PROTOCOL_OF_TASK[args.task])
    which = Which(languages=args.language, role=args.role)
    if protocol.path_type is not None:
        which = replace(which, path_type=protocol.path_type)
    if args.validate:
        count = check_file(
            layout, args.task, args.split, args.file, which=which, partial=args.partial
        )
        found = {"file": str(args.file), "valid": True, "walks": count}
        say(f"{args.file}: {count} walks, as the leaderboard takes them", found, args.json)
        return 0
    episodes = read_answers(layout, args.task, args.split, which=which)
    result = score_file(args.file, episodes, layout.connectivity, protocol, partial=args.partial)
    if args.out is not None:
        write_result(args.out, result)
    return _say_scores(args, result)


def _score_tracks(args: Score) -> int:
    from sterna.metrics import write_result
    from sterna.recipes.simulated import EvalConfig
    from sterna.recipes.trackfiles import check_board_file, score_track_file

    config = EvalConfig(
        env="house",
        agent="stay",
        split=args.split,
        task="vlnce" if args.task == "vlnce" else "rxr-ce",
        episodes=args.episodes,
        languages=args.language,
        role=args.role,
        release=args.release,
        protocol=args.protocol,
        skip=args.skip_unscorable,
    )
    root = None if args.episodes is not None else find_data(args.data)
    if args.validate:
        count = check_board_file(args.file, config, root, partial=args.partial)
        found = {"file": str(args.file), "valid": True, "walks": count}
        say(f"{args.file}: {count} walks, as the leaderboard takes them", found, args.json)
        return 0
    result = score_track_file(args.file, config, root, partial=args.partial)
    if args.out is not None:
        write_result(args.out, result)
    return _say_scores(args, result)


def _say_scores(args: Score, result: Any) -> int:
    from sterna.metrics import format_result

    values = result.to_dict() if args.per_episode else _summary(result)
    say(format_result(result), values, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the model presets."""

    json: bool = False
    """Print one JSON object on standard output."""


def models(argv: Sequence[str]) -> int:
    """List presets."""
    from sterna.models.presets import preset_table

    args: Models = parse(Models, argv, "models")
    rows = preset_table()
    say(_table(rows), {"models": rows}, args.json)
    return 0


def _table(rows: list[dict[str, Any]]) -> str:
    def cell(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else str(value)

    heads = list(rows[0])
    lines = [heads, *([cell(row[h]) for h in heads] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    right = [isinstance(rows[0][h], int | float) for h in heads]
    return "\n".join(
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )
