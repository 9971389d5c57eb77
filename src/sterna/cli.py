"""The command line: parses, calls a recipe, prints; exit codes 0 done, 1 failed, 2 bad input."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from sterna import __version__, processes
from sterna.errors import InputError

USAGE = """usage: sterna COMMAND [options]      (sterna COMMAND --help teaches each)

  quickstart   make houses, train a teacher, distil its student, score both, write a page
  pretrain     pre-train a navigator (masked words, masked views, single actions) from a recipe
  train        train a navigator by imitation from a recipe
  distil       train a student beside a teacher (MiniVLN, --stage 1 or 2); also: distill
  sft          fine-tune a vision-language navigator on egocentric walks (VLN-R1, stage 1)
  grpo         improve a trained navigator by rewards: of its walks, or of its answers (VLN-R1)
  actdistill probe  stage 1 of ActDistill: what each layer of a trained policy knows
  actdistill distill  stage 2: a student that runs only the layers that an action needs
  actdistill calibrate  its thresholds for several FLOP budgets
  actdistill eval  it beside its teacher and beside fixed selections of layers as costly
  eval         walk a split with a saved policy and score it
  eval --env   the same in continuous space: in houses, or in Habitat behind `habitat serve`
  habitat serve  the script that runs inside Habitat's environment, or houses in its place
  export       write a policy for a small computer: ONNX graphs, int8, a card that compares
  serve        answer robots over HTTP with an exported policy, without torch
  bench        `bench latency`: time policies and exports here, with memory, sizes, FLOPs
  score        score a trajectory or submission file
  study        train and score a whole table over seeds, with controls
  models       list the model presets: parameters, sizes, the checkpoints they load
  models convert  published checkpoints (DUET, ScaleVLN, AutoVLN, HAMT) in, and out again
  push         put a policy on the Hub, with a card that says how it was scored
  data get     list the field's data sets and fetch them, verified, into one layout
  data check   say what a data folder holds, what is missing, where it is offered
  data make    make houses from seeds, with instructions, in the field's own files
  data encoder  train what looks at houses: pictures in, features that share a space with words out
  data import  bring your own building: panoramas with poses become a data folder
  data embed   embed text observations into a view store
  data r4r     derive R4R from R2R
  features views  what an image encoder (CLIP, SigLIP, DINO, ...) sees all around every viewpoint
  features objects  what it sees in REVERIE's boxes
  features merge  the files of shards in one
  ego make     walk episodes and keep frames, actions and expert labels (VLN-R1's data)
  ego export   the same as VLN-Ego's JSON or a LeRobot dataset
  ego episodes write the episodes that walks are drawn from as a file to be walked (VLN-CE's)
  ego sight    let the vision tower of a small navigator learn to see, from rendered labels
  metaworld demos  demonstrations of Meta-World's scripted experts, with noise in what is done
  metaworld train  a small policy from pictures and a sentence to actions, taught by them
  metaworld eval   its success by task, on the same scenes for every policy
  show         draw an episode from above; one in continuous space as a video with its view

Data is found by --data DIR, else STERNA_DATA, else ./data. Exit codes: 0 done, 1 a check failed,
2 bad input or usage."""


COMMANDS = {
    "quickstart": "studies:quickstart",
    "pretrain": "training:pretrain",
    "train": "training:train",
    "distil": "training:distil",
    "distill": "training:distil",
    "sft": "finetuning:sft",
    "grpo": "practice:grpo",
    "actdistill probe": "actdistill:probe",
    "actdistill distill": "actdistill:distill",
    "actdistill calibrate": "actdistill:calibrate",
    "actdistill eval": "actdistill:evaluate",
    "eval": "scoring:evaluate",
    "habitat serve": "continuous:habitat",
    "export": "edge:export",
    "serve": "serving:serve",
    "bench latency": "bench:latency",
    "score": "scoring:score",
    "models": "scoring:models",
    "models convert": "weights:convert",
    "push": "weights:push",
    "data get": "getting:get",
    "data check": "data:check",
    "data make": "houses:make",
    "data encoder": "houses:encoder",
    "data import": "building:bring",
    "data embed": "data:embed",
    "data r4r": "data:r4r",
    "features views": "features:views",
    "features objects": "features:objects",
    "features merge": "features:merge",
    "ego make": "ego:make",
    "ego export": "ego:export",
    "ego sight": "sight:sight",
    "ego episodes": "ego:episodes",
    "metaworld demos": "metaworld:demos",
    "metaworld train": "metaworld:train",
    "metaworld eval": "metaworld:evaluate",
    "show": "showing:show",
    "study": "studies:study",
}
"""Where in `sterna.commands` each command is; loaded when it is called."""

Command = Callable[[Sequence[str]], int]


def _find(argv: list[str]) -> tuple[Command | None, list[str]]:
    for words in (2, 1):
        name = " ".join(argv[:words])
        if len(argv) >= words and name in COMMANDS:
            module, function = COMMANDS[name].split(":")
            command: Command = getattr(import_module(f"sterna.commands.{module}"), function)
            return command, argv[words:]
    return None, argv


_UNUSABLE_PATH = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


_SHARED = (
    *("pretrain", "train", "distil", "distill", "sft", "grpo", "eval", "metaworld train"),
    *("actdistill probe", "actdistill distill"),
)
"""Commands that several processes may share (docs/scale.md)."""


def _check_shared(name: str) -> None:
    """Refuse to do the same work several times."""
    if not processes.alone() and name not in _SHARED:
        raise InputError(
            f"{name} runs in one process; start it without accelerate launch (those that several "
            f"processes share: {', '.join(_SHARED)})"
        )


def _calm_progress() -> None:
    """Where standard error is no terminal (a log), let progress bars speak twice a minute.

    Of several processes that share a run, those of the main one alone.
    """
    if not processes.is_main():
        os.environ["TQDM_DISABLE"] = "1"
    if not processes.alone():  # torch tells at length which socket broke; we say it in one line
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
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
        _check_shared(" ".join(given[: len(given) - len(rest)]))
        return command(rest)
    except BrokenPipeError:  # whoever read our output left (`sterna ... | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, *_UNUSABLE_PATH) as error:
        _complain(str(error))
        return 2
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _complain(
            f"{where}cannot write ({error.strerror}); free some space or give another --out; the "
            "same command continues"
        )
        return 2
    except KeyboardInterrupt:
        _complain("stopped; the same command continues")
        return 130
    except RuntimeError as error:
        if not processes.is_lost(error):
            raise
        _complain("another process of this run has ended; the same command continues")
        return 1


def _complain(text: str) -> None:
    """Print why a command ends; of processes that end together the first one does."""
    if processes.is_first_to_fail():
        print(f"sterna: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
