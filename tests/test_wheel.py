"""The wheel: built without a network, installed alone, quick to import, with all its files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling is not installed: the wheel is not built")

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
OFFLINE = ("--no-deps", "--no-index")
IMPORTED, HELPED = 1.5, 1.0
"""Seconds that may pass, at the best of five tries."""


def do(*words: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    do(*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", out, ROOT)
    (file,) = out.glob("sterna-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The wheel in a folder of its own, and the environment in which Python finds it there."""
    folder = tmp_path_factory.mktemp("installed")
    do(*PIP, "install", *OFFLINE, "--target", folder, wheel)
    return {"PYTHONPATH": str(folder)}


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if not name.endswith("/")}
    package = ROOT / "src"
    wanted = {
        str(path.relative_to(package))
        for path in (package / "sterna").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted == {name for name in names if name.startswith("sterna/")}
    assert {"sterna/py.typed", "sterna/envs/habitat_server.py"} <= wanted
    assert all(".dist-info/" in name for name in names - wanted)


def test_it_imports_and_helps_in_a_moment(installed: dict[str, str], tmp_path: Path) -> None:
    found = do(
        sys.executable, "-c", "import sterna; print(sterna.__file__)", cwd=tmp_path, env=installed
    )
    assert found.startswith(installed["PYTHONPATH"])
    program = Path(installed["PYTHONPATH"]) / "bin" / "sterna"
    bare = best(tmp_path, installed, sys.executable, "-c", "import sterna")
    helped = best(tmp_path, installed, sys.executable, program, "--help")
    assert bare < IMPORTED and helped < HELPED, (bare, helped)


def best(cwd: Path, env: dict[str, str], *words: object) -> float:
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        do(*words, cwd=cwd, env=env)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def test_every_command_is_there(installed: dict[str, str], tmp_path: Path) -> None:
    """Modules of commands import with the core alone: what an extra brings is imported later."""
    code = (
        "from importlib import import_module\n"
        "from sterna.cli import COMMANDS\n"
        "for place in COMMANDS.values():\n"
        "    module, name = place.split(':')\n"
        "    assert callable(getattr(import_module(f'sterna.commands.{module}'), name))\n"
        "print(len(COMMANDS))"
    )
    assert int(do(sys.executable, "-c", code, cwd=tmp_path, env=installed)) > 30
