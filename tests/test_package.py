"""The package as a whole: cheap to import, versioned, and built on floors."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sterna

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "src" / "sterna"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
FLOORS = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
ROOMS = [room for layer in FLOORS for room in layer.strip("()").split(" | ")]
HEAVY = {"torch", "numpy", "scipy", "h5py", "tokenizers", "transformers", "PIL", "accelerate"}


def modules_after(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
    )
    return {name.split(".")[0] for name in json.loads(run.stdout)}


def test_importing_sterna_brings_nothing_heavy():
    assert not modules_after("import sterna") & HEAVY


@pytest.mark.parametrize("room", ["world", "data", "metrics", "show"])
def test_rooms_without_networks_do_not_bring_torch(room):
    assert "torch" not in modules_after(f"import sterna.{room}")


def test_version_is_that_of_the_project():
    assert sterna.__version__ in (PROJECT["project"]["version"], "0+source")


def test_every_room_of_the_house_stands_on_a_floor():
    built = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/*.py")}
    assert built - {"__init__"} <= set(ROOMS)


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.split(".")[1] for name in found if name.startswith("sterna.")}


def test_rooms_import_only_downwards_even_inside_functions():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        above = set(ROOMS[: ROOMS.index(room)]) if room in ROOMS else set(ROOMS)
        assert not imports_of(file) & above, f"{file.name} imports from a room above {room}"


def test_pinned_versions_cover_the_direct_dependencies():
    pins = dict(
        line.split("==")
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + extras["dev"] + extras["text"] + extras["viz"]
    wanted += extras["edge"] + extras["export"]
    names = {re.split(r"[<>=!~ \[]", line)[0] for line in wanted}
    assert names - {"sterna"} <= set(pins)
