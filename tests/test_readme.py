"""What README and docs say to type works: Python blocks run in the toy world, commands parse."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro

from sterna import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [body for language, body in found if language in languages]


def _commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for block in _blocks(page, "sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words = words[1:]
                if words[:2] == ["accelerate", "launch"] and "sterna.cli" in words:
                    words = words[words.index("sterna.cli") :]
                if words and Path(words[0]).name in ("sterna", "sterna.cli"):
                    found.append((page.name, words[1:]))
    return found


class _Parsed(Exception):  # noqa: N818  (it is no error)
    pass


@pytest.mark.parametrize(("page", "words"), _commands(), ids=lambda value: str(value)[:60])
def test_commands_parse(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parse = tyro.cli

    def parse_only(*arguments: Any, **options: Any) -> None:
        parse(*arguments, **options)
        raise _Parsed

    monkeypatch.setattr(tyro, "cli", parse_only)
    with pytest.raises(_Parsed):
        cli.main(words)


@pytest.mark.parametrize("page", [p for p in PAGES if _blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, in order, in one namespace and an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(_blocks(page, "python")):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def test_usage_is_covered() -> None:
    pages = {page for page, _ in _commands()}
    assert "usage.md" in pages and _blocks(ROOT / "docs" / "usage.md", "python")


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            path = Path(os.path.normpath(page.parent / target))
            assert path.exists(), f"{page.relative_to(ROOT)}: {target}"
