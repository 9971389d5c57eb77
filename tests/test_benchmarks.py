"""The benchmarks fit the library as it is: whatever they take from it is there."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = runpy.run_path(str(FOLDER / name), run_name="benchmark")
    assert "Usage: " in module["__doc__"] or "main" not in module
