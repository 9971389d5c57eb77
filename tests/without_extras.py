"""Run commands that need an extra where none is installed; print what each said, as JSON.

python without_extras.py FOLDER     (what `test_extras.prepare` made)

A test runs this with the extras' modules hidden; by hand it runs in an environment that has only
the package: python -m venv DIR; DIR/bin/pip install sterna-*.whl; DIR/bin/python ...
"""

import contextlib
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path

CASES = {
    "export": ("export policy --to out --data data", "export"),
    "eval --engine": ("eval edge --engine onnx --data data --workers 1", "edge"),
    "serve": ("serve edge --port 0", "serve"),
    "bench latency of a policy": ("bench latency policy:onnx --out out", "export"),
    "bench latency of an export": ("bench latency edge --out out --threads 1", "edge"),
    "show an MP4": ("show 1 --episodes flat.json --out out.mp4", "viz"),
    "ego export": ("ego export walks --format lerobot --out out", "lerobot"),
    "ego sight": ("ego sight --out out", "vlm"),
    "ego make --agent": ("ego make --agent navigator --seeds 0:1 --workers 1 --out out", "vlm"),
    "sft": ("sft navigator-s --walks.train walks --out out", "vlm"),
    "sft of a published model": ("sft vlm-2b --walks.train walks --out out", "vlm"),
    "sft --plan": ("sft vlm-2b --walks.train walks --out out --plan", "vlm"),
    "grpo": ("grpo navigator-s --policy navigator --samples.train walks --out out", "vlm"),
    "grpo of walks": (
        "grpo navigator-s-walks --policy navigator --env.episodes house.json --out out",
        "vlm",
    ),
    "eval --env house": ("eval --env house --agent navigator --episodes house.json", "vlm"),
    "actdistill probe": (
        "actdistill probe navigator-s --teacher navigator --walks.train walks --out out",
        "vlm",
    ),
    "study vlnr1": (
        "study vlnr1-group --walks walks --episodes house.json --practised house.json --out out",
        "vlm",
    ),
    "data make houses --encoder": (
        "data make houses --train 1 --val-unseen 1 --encoder somebody/clip --workers 1 --out out",
        "vlm",
    ),
    "data embed": ("data embed --data captions --out out.hdf5", "text"),
    "train with its words": (
        "train toy-teacher --data data --start.language all-MiniLM-L6-v2 --out out",
        "text",
    ),
    "metaworld demos": ("metaworld demos --out out", "metaworld"),
    "metaworld eval": ("metaworld eval vla --out out", "metaworld"),
}
"""What is typed, and the extra that its refusal must name."""


def run(words: list[str]) -> dict[str, object]:
    """Call the command line in this process."""
    from sterna.cli import main

    out, err = io.StringIO(), io.StringIO()
    begin = time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = main(words)
        except SystemExit as stop:
            code = stop.code
        except Exception as error:
            code = f"{type(error).__name__}: {error}"
    seconds = round(time.perf_counter() - begin, 2)
    left = [str(path) for path in Path().glob("out*") for path in (path, *path.rglob("*"))]
    shutil.rmtree("out", ignore_errors=True)
    said = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    return said | {"seconds": seconds, "left": left}


if __name__ == "__main__":
    os.chdir(Path(sys.argv[1]))
    os.environ["HF_HUB_OFFLINE"] = "1"
    json.dump({name: run(words.split()) for name, (words, _) in CASES.items()}, sys.stdout)
