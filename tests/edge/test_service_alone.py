"""The service and its client where neither torch nor the training rooms are installed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.conftest import Exported
from edge.test_alone import NEEDED, TAKEN, make_site

HTTP = ("aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "idna", "multidict")
HTTP += ("propcache", "typing_extensions", "yarl")
SHELL = ("docstring_parser", "rich", "markdown_it", "mdurl", "pygments", "typeguard", "tyro")
EDGE = ("edge/wire.py", "edge/messages.py")
SERVICE = (*TAKEN, *EDGE, "edge/service", "cli.py", "commands/__init__.py", "commands/common.py")
SERVICE += ("commands/serving.py", "processes.py")
CLIENT = (*TAKEN, *EDGE, "edge/client.py")

SERVE = """
import atexit, json, sys
sys.path[:0] = json.loads(sys.argv[1])
atexit.register(lambda: print(json.dumps(sorted(sys.modules))))
from sterna.cli import main
code = main(["serve", sys.argv[2], "--engine", "onnx-int8", "--port", "0", "--json"])
"""

ASK = """
import asyncio, json, sys
sys.path[:0] = json.loads(sys.argv[1])
import numpy as np
from sterna.edge.client import Client
from sterna.edge.runtime import Neighbour, Observation

PLACES = {"b": (0, 2, 0), "c": (2, 0, 0)}

async def ask():
    async with Client(sys.argv[2]) as client:
        size = (await client.model())["feature_size"]
        async with await client.start("turn left and stop at the red door") as walk:
            here = {"node": "a", "position": (0, 0, 0), "heading": 0.0}
            near = [Neighbour(name=name, position=place) for name, place in PLACES.items()]
            views = np.zeros((36, size), np.float32)
            return (await walk.step(Observation(**here, views=views, neighbours=near))).target

print(json.dumps([asyncio.run(ask()), sorted(sys.modules)]))
"""


def start(program: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rooms(modules: list[str]) -> set[str]:
    """The rooms of sterna among modules; what must not be there is not."""
    tops = {name.split(".")[0] for name in modules}
    assert not tops & {"torch", "scipy", "h5py", "numba", "onnx", "PIL"}
    return {name.split(".")[1] for name in modules if name.startswith("sterna.")}


def test_a_service_and_a_client_of_few_packages(exported: Exported, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: `sterna serve` is not checked")
    server = make_site(tmp_path / "server", SERVICE, (*NEEDED, *HTTP, *SHELL))
    robot = make_site(tmp_path / "robot", CLIENT, ("numpy", *HTTP))
    with start(SERVE, json.dumps([str(server)]), str(exported.folder)) as service:
        assert service.stdout is not None and service.stderr is not None
        first = service.stdout.readline()
        assert first, service.stderr.read()
        with start(ASK, json.dumps([str(robot)]), json.loads(first)["url"]) as client:
            said, errors = client.communicate(timeout=120)
        service.send_signal(signal.SIGTERM)
        out, err = service.communicate(timeout=60)
    assert (client.returncode, errors) == (0, "") and service.returncode == 0, err
    target, modules = json.loads(said)
    assert target in "abc"
    assert rooms(modules) == {"edge", "errors", "files", "world"}
    assert not {"onnxruntime", "tokenizers"} & set(modules)
    assert rooms(json.loads(out)) == {
        "cli", "commands", "edge", "errors", "files", "processes", "world",
    }  # fmt: skip
