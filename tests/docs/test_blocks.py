"""What README and docs say to type works: blocks are executed, or say why not; commands parse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tyro

from pages import NO_CODE, PAGES, ROOT, SHELL, Block, Reader, blocks, needed, spans
from sterna import cli

BLOCKS = [block for page in PAGES for block in blocks(page)]
TYPED = [block for block in BLOCKS if block.not_run is None and block.language not in NO_CODE]
RUN = list(dict.fromkeys(block.page for block in TYPED if not block.real))
REAL = list(dict.fromkeys(block.page for block in TYPED if block.real))
RECIPES = {
    "train": "toy-teacher",
    "pretrain": "toy-teacher",
    "distil": "toy-student",
    "sft": "navigator-s",
    "grpo": "navigator-s",
    "metaworld train": "vla-s",
    "actdistill probe": "toy-duet",
    "actdistill distill": "toy-duet",
}
"""What stands for the recipe where a sentence leaves it out."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_there_are_tutorials() -> None:
    guides = {name_of(page) for page in RUN}
    wanted = ("tour", "minivln", "fine-tune-vlm", "faster-vla", "robot", "own-building")
    assert {f"docs/guides/{name}.md" for name in wanted} <= guides
    assert "docs/usage.md" in guides


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_every_block_is_run_or_says_why_not(block: Block) -> None:
    """A language that the tests can execute, or a reason that a person can judge."""
    if block.language == "json":
        json.loads(block.body)
    if block.language in NO_CODE:
        assert not block.commands and not block.shorter and not block.instead
        return
    assert block.language in (*SHELL, "python"), f"{block.where}: language {block.language!r}"
    if block.not_run is not None:
        assert len(block.not_run) > 8, f"{block.where}: not run, and no reason"
        if block.language == "python":
            compile(block.body, block.where, "exec")
    assert list(block.faults()) == [], block.where


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what pages are given is kept."""
    return tmp_path_factory.mktemp("given")


@pytest.fixture
def reader(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Whoever types what a page says, in an empty folder."""
    reader = Reader(tmp_path, store, monkeypatch)
    yield reader
    reader.close()


# Of huggingface_hub's own upload of weights, whatever it is given.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_does_what_it_says(page: Path, reader: Reader) -> None:
    """All blocks of a page but the marked ones, in order, in one empty folder."""
    for module in needed(page):
        # Not imported: what some of them find at that moment, a page may have to choose first.
        if find_spec(module) is None:
            pytest.skip(f"{page.name} needs {module}: see its first lines")
    for block in TYPED:
        if block.page == page and not block.real:
            reader.type(block)


@pytest.mark.parametrize("page", REAL, ids=name_of)
def test_a_page_does_what_it_says_with_real_data(
    page: Path, data_dir: Path, reader: Reader
) -> None:
    """Its blocks that need data, in a folder of their own."""
    for block in TYPED:
        if block.page == page and block.real:
            reader.type(block)


class _Parsed(Exception):  # noqa: N818  (it is no error)
    pass


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands read their options and do nothing."""
    parse = tyro.cli

    def parse_only(*arguments: Any, **options: Any) -> None:
        parse(*arguments, **options)
        raise _Parsed

    monkeypatch.setattr(tyro, "cli", parse_only)


COMMANDS = [(block.where, words) for block in BLOCKS for words in block.commands]
SPANS = sorted({(name_of(page), span) for page in PAGES for span in spans(page)})


@pytest.mark.usefixtures("only_parse")
@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=lambda value: str(value)[:60])
def test_commands_parse(where: str, words: list[str]) -> None:
    """Commands, recipes and options of every line exist, also where nothing is run."""
    if words in (["--help"], ["--version"]):
        return
    with pytest.raises(_Parsed):
        cli.main(words)


@pytest.mark.usefixtures("only_parse")
@pytest.mark.parametrize(("page", "span"), SPANS)
def test_commands_in_sentences_exist(
    page: str, span: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sterna ...` within a sentence names a command, and options that it has."""
    words = [word for word in span.split()[1:] if word != "..."]
    for command in _alternatives(words):
        family = " ".join(command) + " "
        if command[0] in ("--help", "--version", "COMMAND") or any(
            name.startswith(family) for name in NAMES
        ):
            continue
        name, rest = _named(command)
        assert name is not None, f"{page}: no command in {span!r}"
        assert _refusal(name, rest, capsys) is None, f"{page}: {span}"


NAMES = tuple(cli.COMMANDS)


def _alternatives(words: list[str]) -> list[list[str]]:
    """`actdistill probe | distill` are two commands of a family."""
    parts = " ".join(words).split(" | ")
    family = words[:1]
    return [parts[0].split(), *([*family, *part.split()] for part in parts[1:])]


def _named(words: list[str]) -> tuple[str | None, list[str]]:
    for length in (2, 1):
        if " ".join(words[:length]) in NAMES and len(words) >= length:
            return " ".join(words[:length]), words[length:]
    return None, words


def _refusal(name: str, rest: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Say what a command does not know of its words; what is merely missing is put in."""
    if name in RECIPES and (not rest or rest[0].startswith("--")):
        rest = [RECIPES[name], *rest]
    for filling in ([], ["X"]):
        capsys.readouterr()
        try:
            cli.main([*name.split(), *filling, *rest])
        except _Parsed:
            return None
        except SystemExit:
            pass
        said = capsys.readouterr().err
        if "Unrecognized" in said:
            return said
        if "Missing argument" not in said:
            return None  # a required option is left out, or NAME stands for a choice
    return None
