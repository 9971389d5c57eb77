"""The command line: parses, calls a recipe, prints; exit codes 0 done, 1 failed, 2 bad input."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from sterna import __version__
from sterna.commands.common import find_data as _data
from sterna.commands.common import parse as _parse
from sterna.commands.common import say as _say
from sterna.errors import InputError
from sterna.recipes.options import Common

USAGE = """usage: sterna COMMAND [options]      (sterna COMMAND --help teaches each)

  quickstart   train a small teacher, distil a student, score both, print the table
  pretrain     pre-train a navigator (masked words, masked views, single actions) from a recipe
  train        train a navigator by imitation from a recipe
  distil       train a student beside a teacher (MiniVLN, --stage 1 or 2); also: distill
  eval         walk a split with a saved policy and score it
  score        score a trajectory or submission file
  study        train and score a whole table over seeds, with controls
  models       list the model presets: parameters, sizes, the checkpoints they load
  data check   say what a data folder holds, what is missing, where it is offered
  data make    make houses from seeds, with instructions, in the field's own files
  data embed   embed text observations into a view store
  data r4r     derive R4R from R2R
  show         draw an episode from above; one in continuous space as a video with its view

Data is found by --data DIR, else STERNA_DATA, else ./data. Exit codes: 0 done, 1 a check failed,
2 bad input or usage."""


def _run(
    kind: type[Any],
    recipes: Any,
    prog: str,
    description: str,
    argv: Sequence[str],
    prepare: Callable[..., Any],
    following: str = "sterna eval {out} --split val_unseen",
) -> int:
    from sterna.recipes.arguments import choices, configured
    from sterna.recipes.options import use_threads
    from sterna.recipes.plan import plan_run
    from sterna.recipes.runs import finish

    args = _parse(choices(kind, recipes), _recipe_first(argv), prog, description)
    use_threads(args.threads)
    config, root, out = configured(args), _data(args.data), args.out
    if args.plan:
        _say(*plan_run(prepare, config, root), args.json)
        return 0
    finish(prepare(config, root, out), out, threads=args.threads)
    run = json.loads((out / "run.json").read_text("utf-8"))
    text = (
        f"{out}: {run['iteration']} iterations in {run['seconds']:.0f} s, best weights of "
        f"iteration {run['best_iteration']} in {out / 'best'}\n"
        f"next: {following.format(out=out)}"
    )
    shown = ("iteration", "best_iteration", "seconds", "scores")
    _say(text, {"out": str(out), **{key: run[key] for key in shown}}, args.json)
    return 0


def _recipe_first(argv: Sequence[str]) -> list[str]:
    """Let `--recipe NAME` name the recipe as well as NAME in front."""
    words = list(argv)
    for place, word in enumerate(words):
        if word == "--recipe" or word.startswith("--recipe="):
            end = place + 1 + (word == "--recipe")
            name = word.removeprefix("--recipe").removeprefix("=") or "".join(
                words[place + 1 : end]
            )
            return [name, *words[:place], *words[end:]]
    return words


def _train(argv: Sequence[str]) -> int:
    from sterna.recipes.arguments import TrainArguments
    from sterna.recipes.runs import prepare
    from sterna.recipes.tables import TRAINING

    about = "Train a navigator in DUET's way (teacher forcing + DAgger). Choose a recipe:"
    return _run(TrainArguments, TRAINING, "train", about, argv, prepare)


_NEXT = "sterna train RECIPE --start.weights {out}/best"


def _pretrain(argv: Sequence[str]) -> int:
    from sterna.recipes.arguments import PretrainArguments
    from sterna.recipes.pretraining import prepare
    from sterna.recipes.tables import PRETRAINING

    about = (
        "Pre-train a navigator in DUET's way; then: sterna train RECIPE --start.weights RUN/best. "
        "Choose a recipe:"
    )
    return _run(PretrainArguments, PRETRAINING, "pretrain", about, argv, prepare, _NEXT)


def _distil(argv: Sequence[str]) -> int:
    from sterna.recipes.arguments import DistilArguments
    from sterna.recipes.runs import prepare
    from sterna.recipes.tables import DISTILLING

    stage, rest = _stage(list(argv))
    if stage == "1":
        return _distil_pretraining(rest)
    about = (
        "Train a student beside a teacher that walks its trajectory (MiniVLN stage 2). "
        "--distill.weight 0 trains the student alone. --stage 1: distil pre-training, block by "
        "block (--stage 1 --help teaches it). Choose a recipe:"
    )
    return _run(DistilArguments, DISTILLING, "distil", about, rest, prepare)


def _distil_pretraining(argv: Sequence[str]) -> int:
    from sterna.recipes.arguments import Stage1Arguments
    from sterna.recipes.pretraining import prepare
    from sterna.recipes.tables import STAGE1

    about = (
        "Pre-train a student beside a pre-trained teacher, block by block (MiniVLN stage 1). "
        "--distill.weight 0 trains the student alone. Choose a recipe:"
    )
    following = _NEXT.replace("train", "distil", 1)
    return _run(Stage1Arguments, STAGE1, "distil --stage 1", about, argv, prepare, following)


def _stage(argv: list[str]) -> tuple[str, list[str]]:
    """Take `--stage N` out of the arguments; the recipes to choose from depend on it."""
    for place, word in enumerate(argv):
        if word == "--stage" or word.startswith("--stage="):
            value = word.removeprefix("--stage").removeprefix("=") or "".join(argv[place + 1 :][:1])
            if value not in ("1", "2"):
                raise InputError(f"--stage must be 1 or 2, found {value or 'nothing'}")
            return value, argv[:place] + argv[place + 1 + (word == "--stage") :]
    return "2", argv


@dataclass(frozen=True, kw_only=True)
class Eval(Common):
    """Walk a split with a saved policy and score it; controls: --permute, --blind."""

    policy: tyro.conf.Positional[Path]
    """Run folder (its best weights) or saved policy."""
    split: str = "val_unseen"
    """Split to walk."""
    views: str | None = None
    """View store; default: the one of the policy's run."""
    objects: str | None = None
    """Objects (REVERIE): names, none or a file; default: those of the policy's run."""
    protocol: str | None = None
    """Scoring protocol by name (default: DUET's evaluator of the task)."""
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


def _eval(argv: Sequence[str]) -> int:
    from sterna.metrics import format_result
    from sterna.recipes.evaluation import run_eval, run_submit
    from sterna.recipes.options import use_threads

    args: Eval = _parse(Eval, argv, "eval")
    use_threads(args.threads)
    root, out = _data(args.data), args.out or args.policy / _eval_folder(args)
    if args.submit:
        file = run_submit(
            args.policy,
            root,
            args.split,
            out,
            views=args.views,
            objects=args.objects,
            batch_size=args.batch_size,
        )
        _say(f"submission: {file}", {"out": str(out), "submission": str(file)}, args.json)
        return 0
    result = run_eval(
        args.policy,
        root,
        args.split,
        views=args.views,
        objects=args.objects,
        protocol=args.protocol,
        permute=args.permute,
        blind=args.blind,
        batch_size=args.batch_size,
        about=args.episodes,
        out=out,
    )
    text = f"{format_result(result)}\nresult and submission: {out}"
    _say(text, _summary(result) | {"out": str(out)}, args.json)
    return 0


def _eval_folder(args: Eval) -> str:
    """Name a folder such that controls, parts and other protocols do not overwrite the result."""
    name = "eval" + "-permuted" * args.permute + "-blind" * args.blind
    return name + "-part" * (args.episodes is not None) + f"-{args.protocol}" * bool(args.protocol)


def _summary(result: Any) -> dict[str, Any]:
    values: dict[str, Any] = result.to_dict()
    values.pop("per_episode", None)
    return values


@dataclass(frozen=True, kw_only=True)
class Score(Common):
    """Score any trajectory file: leaderboard submissions, DUET's hops, NaviLLM's records."""

    file: tyro.conf.Positional[Path]
    """The file (JSON, may be gzipped)."""
    split: str = "val_unseen"
    """Split whose annotations answer it."""
    task: Literal["r2r", "r4r", "reverie", "reverie-v2"] = "r2r"
    """Annotations to read."""
    protocol: str | None = None
    """R2R_DUET, REVERIE_DUET, ... (default): SPL over the annotated path; R2R_MATTERSIM,
    REVERIE_OFFICIAL: over the shortest path."""
    partial: bool = False
    """Accept a file that answers only some episodes."""
    validate: bool = False
    """Only check that the leaderboard can take the file; serves test splits too."""
    out: Path | None = None
    """Write the result file here."""
    per_episode: bool = False
    """With --json: include the table of every episode."""


def _score(argv: Sequence[str]) -> int:
    from sterna.data.layout import Layout
    from sterna.metrics import find_protocol, format_result, score_file, write_result
    from sterna.recipes.answers import PROTOCOL_OF_TASK, check_file, read_answers

    args: Score = _parse(Score, argv, "score")
    layout = Layout(_data(args.data))
    if args.validate:
        count = check_file(layout, args.task, args.split, args.file, partial=args.partial)
        found = {"file": str(args.file), "valid": True, "walks": count}
        _say(f"{args.file}: {count} walks, as the leaderboard takes them", found, args.json)
        return 0
    protocol = find_protocol(args.protocol or PROTOCOL_OF_TASK[args.task])
    episodes = read_answers(layout, args.task, args.split)
    result = score_file(args.file, episodes, layout.connectivity, protocol, partial=args.partial)
    if args.out is not None:
        write_result(args.out, result)
    _say(
        format_result(result),
        result.to_dict() if args.per_episode else _summary(result),
        args.json,
    )
    return 0


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the model presets."""

    json: bool = False
    """Print one JSON object on standard output."""


def _models(argv: Sequence[str]) -> int:
    from sterna.models.presets import preset_table

    args: Models = _parse(Models, argv, "models")
    rows = preset_table()
    _say(_table(rows), {"models": rows}, args.json)
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


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say what a data folder holds, what is missing, and who offers that on what terms."""

    folder: tyro.conf.Positional[Path | None] = None
    """Data folder (default: STERNA_DATA, else ./data)."""
    full: bool = False
    """Read every view feature (slow), not a sample."""
    json: bool = False
    """Print one JSON object on standard output."""


def _data_check(argv: Sequence[str]) -> int:
    from sterna.data.check import check_data

    args: Check = _parse(Check, argv, "data check")
    report = check_data(_data(args.folder), full=args.full)
    _say(report.text(), report.as_dict(), args.json)
    return 0 if report.ok else 1


def _data_make(argv: Sequence[str]) -> int:
    from sterna.commands.houses import make

    return make(argv)


@dataclass(frozen=True, kw_only=True)
class Embed(Common):
    """Embed text observations once into a view store (HDF5, eight views a viewpoint)."""

    out: Path
    """The HDF5 file to write; a killed run continues."""
    encoder: str = "all-MiniLM-L6-v2"
    """Sentence encoder: a folder, or a name (found installed, or on the hub)."""
    objects: bool = True
    """Beside each caption, the mean of its view's object names."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is several times faster on recent CPUs; cosines change by about 1e-3."""


def _data_embed(argv: Sequence[str]) -> int:
    from sterna.data.layout import Layout
    from sterna.data.textobs import embed_observations
    from sterna.models.sentence import SentenceEncoder
    from sterna.recipes.options import use_threads

    args: Embed = _parse(Embed, argv, "data embed")
    use_threads(args.threads)
    source = Layout(_data(args.data)).textobs
    encoder = SentenceEncoder.from_folder(args.encoder, precision=args.precision)
    path = embed_observations(source, encoder, args.out, objects=args.objects)
    text = f"{path}\nnext: sterna train text-teacher --data.views {path}"
    _say(text, {"out": str(path)}, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class DeriveR4R(Common):
    """Derive R4R annotations from R2R (join paths whose ends lie within 3 m)."""

    split: str
    """R2R split to derive from."""
    out: Path
    """The JSON file to write."""


def _data_r4r(argv: Sequence[str]) -> int:
    from sterna.data.layout import Layout
    from sterna.data.r2r import load_graphs, read_r2r
    from sterna.data.r4r import derive_r4r
    from sterna.files import write_json

    args: DeriveR4R = _parse(DeriveR4R, argv, "data r4r")
    layout = Layout(_data(args.data))
    episodes = read_r2r(layout.root, args.split)
    entries = derive_r4r(episodes, load_graphs(layout.connectivity, episodes))
    write_json(args.out, entries)
    count = sum(len(entry["instructions"]) for entry in entries)
    found = {"out": str(args.out), "paths": len(entries), "instructions": count}
    _say(f"{args.out}: {len(entries)} paths, {count} instructions", found, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Show(Common):
    """Draw an episode: on a graph from above; in continuous space as a video beside the map."""

    episode: tyro.conf.Positional[str]
    """Episode, for example 6440_1."""
    split: str = "val_unseen"
    """Its split."""
    task: Literal["r2r", "r4r", "reverie", "reverie-v2", "vlnce"] = "r2r"
    """Annotations to read; vlnce: those in continuous space."""
    episodes: Path | None = None
    """Episode file of VLN-CE (.json.gz) to read instead."""
    walk: Path | None = None
    """Trajectory or submission file with the walk (continuous: a _gt file, or one that holds
    actions for each episode); none: the reference alone."""
    policy: Path | None = None
    """Run or saved policy that walks it now (graphs)."""
    agent: Literal["follower"] | None = None
    """Who walks it now (continuous): the shortest-path follower."""
    protocol: str = "R2R_CE"
    """Body, camera and actions (continuous): R2R_CE or RXR_CE."""
    fps: float = 4.0
    """Pictures a second (continuous)."""
    out: tuple[Path, ...] = field(default_factory=lambda: (Path("episode.png"),))
    """Pictures to write, .png or .svg; continuous: .mp4, .gif, or .png (the last moment)."""


def _show(argv: Sequence[str]) -> int:
    from sterna.recipes.options import use_threads
    from sterna.recipes.pictures import show_episode

    args: Show = _parse(Show, argv, "show")
    if args.episodes is not None or args.task == "vlnce":
        return _show_walk(args)
    if args.agent is not None:
        raise InputError("show: --agent walks continuous episodes; add --task vlnce or --episodes")
    use_threads(args.threads if args.policy else None)
    root = _data(args.data)
    files = show_episode(
        root, args.episode, args.split, args.out, task=args.task, walk=args.walk, policy=args.policy
    )
    names = [str(file) for file in files]
    _say("\n".join(names), {"out": names}, args.json)
    return 0


def _show_walk(args: Show) -> int:
    from sterna.data.layout import Layout
    from sterna.recipes.options import use_threads
    from sterna.recipes.videos import show_walk

    if args.policy is not None:
        raise InputError("show: --policy walks graphs; give --walk FILE or --agent follower")
    use_threads(args.threads)
    shown = show_walk(
        args.episodes or Layout(_data(args.data)).vlnce(args.split),
        args.episode,
        args.out,
        walk=args.walk,
        agent=args.agent,
        protocol=args.protocol,
        threads=args.threads or os.cpu_count() or 1,
        fps=args.fps,
    )
    names = [str(file) for file in shown.files]
    if shown.note:
        print(shown.note, file=sys.stderr)
    _say("\n".join(names), {"out": names, "note": shown.note}, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Quickstart(Common):
    """Train a small teacher, distil a student, score both: on R2R if found, else a toy world."""

    out: Path = Path("runs/quickstart")
    """Folder of the runs; the same command continues a killed one."""
    toy: bool = False
    """Use the generated toy world even where R2R is found."""
    seed: int = 0
    """Seed of weights, order, actions and dropout."""


def _quickstart(argv: Sequence[str]) -> int:
    from sterna.recipes.options import use_threads
    from sterna.recipes.quickstart import quickstart

    args: Quickstart = _parse(Quickstart, argv, "quickstart")
    use_threads(args.threads)
    text, values = quickstart(
        args.data or _env_data(), args.out, toy=args.toy, seed=args.seed, threads=args.threads
    )
    _say(text, values, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Study(Common):
    """A whole table over seeds, with controls; trains and evaluates what is not there yet.

    Processes that are given the same command share the work: each takes a step nobody is at.
    """

    name: tyro.conf.Positional[
        Literal[
            "minivln-stages",
            "minivln-losses",
            "minivln-kdweight",
            "minivln-beyond",
            "r2r-text",
            "toy",
        ]
    ]
    """minivln-stages, -losses, -kdweight: Tables III, IV, V of MiniVLN with controls; -beyond:
    switches that the paper does not have (all share the runs of one --out); r2r-text: a teacher and
    its student without pre-training; toy: the same on generated houses."""
    scale: Literal["text", "text-reverie", "toy", "toy-reverie"] = "text"
    """Recipes of the minivln tables: text observations of R2R or REVERIE, or generated houses
    (written unless --data is given)."""
    out: Path | None = None
    """Folder of all runs (default runs/minivln-SCALE or runs/NAME); the same command continues a
    killed study."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the students."""
    views: str | None = None
    """View store, for example what `sterna data embed` made (default: the recipe's)."""
    iterations: int | None = None
    """Optimiser steps of every run (default: the recipes')."""
    teacher: Path | None = None
    """Saved policy in place of training a teacher."""
    pretrained: Path | None = None
    """Its pre-training (saved policy with text branches), in place of training one."""
    only: tuple[str, ...] = ()
    """Take only the steps whose names match one of these patterns, for example 'teacher*'."""
    plan: bool = False
    """List the steps, what each needs and which are done; run nothing."""


def _study(argv: Sequence[str]) -> int:
    from sterna.recipes.options import use_threads
    from sterna.recipes.quickstart import toy_data
    from sterna.recipes.studies import make_study
    from sterna.recipes.study import Options, plan_text, plan_values, run_study, steps

    args: Study = _parse(Study, argv, "study")
    use_threads(args.threads)
    family = f"minivln-{args.scale}" if args.name.startswith("minivln-") else args.name
    out = args.out or Path("runs") / family
    toy = args.name == "toy" or (family != args.name and args.scale.startswith("toy"))
    root = (args.data or toy_data(out)) if toy else _data(args.data)
    given = {"teacher": args.teacher, "teacher-pretrained": args.pretrained}
    options = Options(
        out=out,
        seeds=args.seeds,
        views=args.views,
        iterations=args.iterations,
        scale=args.scale,
        given={name: path for name, path in given.items() if path is not None},
    )
    study = make_study(args.name, options)
    if args.plan:
        every = steps(study, root, out, threads=args.threads)
        text, values = plan_text(every), plan_values(every)
    else:
        text, values = run_study(study, root, out, threads=args.threads, only=args.only)
    _say(text, values, args.json)
    return 0


def _env_data() -> Path | None:
    named = os.environ.get("STERNA_DATA")
    return Path(named) if named else (Path("data") if Path("data").is_dir() else None)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "quickstart": _quickstart,
    "pretrain": _pretrain,
    "train": _train,
    "distil": _distil,
    "distill": _distil,
    "eval": _eval,
    "score": _score,
    "models": _models,
    "data check": _data_check,
    "data make": _data_make,
    "data embed": _data_embed,
    "data r4r": _data_r4r,
    "show": _show,
    "study": _study,
}


def _find(argv: list[str]) -> tuple[Callable[[Sequence[str]], int] | None, list[str]]:
    for words in (2, 1):
        name = " ".join(argv[:words])
        if len(argv) >= words and name in COMMANDS:
            return COMMANDS[name], argv[words:]
    return None, argv


_UNUSABLE_PATH = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _calm_progress() -> None:
    """Where standard error is no terminal (a log), let progress bars speak twice a minute."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "30")  # tqdm reads these when it is imported
        os.environ.setdefault("TQDM_DELAY", "30")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] in (["--version"], ["version"]):
        print(f"sterna {__version__}")
        return 0
    if not given or given[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if given else 2
    command, rest = _find(given)
    if command is None:
        print(f"sterna: no command {' '.join(given[:2])!r}; see sterna --help", file=sys.stderr)
        return 2
    _calm_progress()
    try:
        return command(rest)
    except BrokenPipeError:  # whoever read our output left (`sterna ... | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, *_UNUSABLE_PATH) as error:
        print(f"sterna: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"sterna: {where}cannot write ({error.strerror}); free some space or give another "
            "--out; the same command continues",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("sterna: stopped; the same command continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
