"""README and docs as the tests read them: code blocks with their marks, command lines, links.

What readers do not see are comments in front of a block or anywhere on a page:

    <!-- not run: takes hours -->            the next block is not executed; why
    <!-- not run "pip": installs -->         its lines that hold these words are not; why
    <!-- given: toy_run runs/teacher -->     what it finds there: a function of `given.py`
    <!-- instead: a.yaml -> b.yaml -->       in tests, what stands in its text (all of it)
    <!-- shorter: train --iterations 4 -->   in tests, what its `sterna train` adds
    <!-- refused: data get r2r -->           its command that ends with exit code 2
    <!-- then: assert done.stop -->          Python that follows it in tests
    <!-- needs: STERNA_DATA -->              it is executed where there is real data
    <!-- needs: transformers, onnx -->       the page's blocks need these modules (an extra)
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from given import GIVEN
from sterna.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("sh", "bash", "console")
NO_CODE = ("text", "json")
"""Languages of blocks that nobody types: drawings, answers, what a command printed."""
PORTS = ("8765", "8766", "8791")
"""Services listen there; tests take free ones."""
DATA = "STERNA_DATA"

_FENCE = re.compile(r"^([ ]*)```([^\n`]*)\n(.*?)^\1```[ ]*$", re.M | re.S)
_MARKS = re.compile(r"(?:<!--(?:(?!-->).)*-->\s*)+\Z", re.S)
_MARK = re.compile(
    r"<!--\s*(not run|given|instead|shorter|refused|then|needs)(?: \"(.*?)\")?:\s*(.*?)\s*-->", re.S
)
_NEEDS = re.compile(r"<!--\s*needs:\s*(.*?)\s*-->")
_OPERATORS = ("|", "||", "&&", ";", "&", ">", ">>")
_SETTING = re.compile(r"[A-Z_]+=.*")
_SPAN = re.compile(r"`(sterna [^`]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    body: str
    not_run: str | None
    """Why it is not executed; None: it is."""
    but: tuple[tuple[str, str], ...] = ()
    """Words of lines that are not executed, and why."""
    given: tuple[tuple[str, ...], ...] = ()
    """What it finds there: a name of `given.py`, and its words."""
    instead: tuple[tuple[str, str], ...] = ()
    """What tests read in it, and what they type."""
    shorter: tuple[str, ...] = ()
    """What tests add to its commands, each `COMMAND OPTIONS`."""
    refused: tuple[str, ...] = ()
    """Commands that end with exit code 2."""
    then: str = ""
    """Python that follows in tests."""
    real: bool = False
    """It needs real data."""

    @property
    def where(self) -> str:
        """Its page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words behind each `sterna` on its lines."""
        return _commands(self.body) if self.language in SHELL else []

    @property
    def typed(self) -> str:
        """What tests type: all of it but the lines that are not executed, with what they change."""
        text = self.body if self.language == "python" else self.body.replace("\\\n", " ")
        if self.but:
            lines = text.splitlines(keepends=True)
            text = "".join(x for x in lines if not any(words in x for words, _ in self.but))
        for old, new in self.instead:
            text = text.replace(old, new)
        return text

    def faults(self) -> Iterator[str]:
        """Say which marks fit nothing of it."""
        for words, why in self.but:
            if words not in self.body or len(why) <= 8:
                yield f'not run "{words}": {why}'
        text = replace(self, instead=()).typed
        for old, new in self.instead:
            if old not in text:
                yield f"instead: {old}"
            text = text.replace(old, new)
        commands = _commands(self.typed) if self.language in SHELL else []
        for mark in self.shorter:
            if not any(shortened(words, (mark,)) for words in commands):
                yield f"shorter: {mark}"
        for mark in self.refused:
            if not any(words[: len(mark.split())] == mark.split() for words in commands):
                yield f"refused: {mark}"


def blocks(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = _MARKS.search(text[: match.start()])
        marks = _Marks(_MARK.findall(before.group()) if before else [])
        indent = len(match.group(1))
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start()) + 1,
                language=match.group(2).strip(),
                body="\n".join(line[indent:] for line in match.group(3).splitlines()) + "\n",
                not_run=next(iter(marks.of("not run")), None),
                but=tuple(mark[1:] for mark in marks if mark[0] == "not run" and mark[1]),
                given=tuple(tuple(what.split()) for what in marks.of("given")),
                instead=tuple(_pair(what) for what in marks.of("instead")),
                shorter=tuple(marks.of("shorter")),
                refused=tuple(marks.of("refused")),
                then="\n".join(marks.of("then")),
                real=DATA in marks.of("needs"),
            )
        )
    return found


class _Marks(list[tuple[str, str, str]]):
    """Kind, quoted words, text of each comment in front of a block."""

    def of(self, wanted: str) -> list[str]:
        return [text for kind, words, text in self if kind == wanted and not words]


def _pair(text: str) -> tuple[str, str]:
    old, _, new = text.partition(" -> ")
    return old, new.replace(r"\n", "\n")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", _FENCE.sub("", page.read_text("utf-8")), flags=re.S)


def spans(page: Path) -> list[str]:
    """Return the commands that its sentences and tables name (`sterna ...` in backquotes)."""
    return [span.replace("\\|", "|") for span in _SPAN.findall(prose(page))]


def needed(page: Path) -> list[str]:
    """Return the modules that a page's blocks need beyond the package's own."""
    found = _NEEDS.findall(page.read_text("utf-8"))
    return [name.strip() for names in found if names != DATA for name in names.split(",")]


def shell_lines(body: str) -> list[str]:
    """Return the lines of a shell block, continued ones joined, without prompts."""
    lines = body.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.strip()]


def _commands(body: str) -> list[list[str]]:
    return [words for line in shell_lines(body) for words in sterna_words(line)]


def sterna_words(line: str) -> list[list[str]]:
    """Return the words behind `sterna` of each command of a line that calls it."""
    found: list[list[str]] = [[]]
    for word in shlex.split(re.sub(r"\$\([^)]*\)", "X", line), comments=True):
        if word in _OPERATORS:
            found.append([])
        elif found[-1] or not _SETTING.fullmatch(word):
            found[-1].append(word)
    launched = [
        words[words.index("sterna.cli") :]
        if words[:2] == ["accelerate", "launch"] and "sterna.cli" in words
        else words
        for words in found
    ]
    ours = ("sterna", "sterna.cli")
    return [words[1:] for words in launched if words and Path(words[0]).name in ours]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Reader:
    """Types what a page says, in order: Python in one namespace, the shell in one folder."""

    def __init__(self, folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Go to an empty folder, without anybody's data; `store` keeps what pages are given."""
        self.data = os.environ.get(DATA)
        monkeypatch.chdir(folder)
        monkeypatch.delenv(DATA, raising=False)
        self.store = store
        self.names: dict[str, Any] = {"__name__": "page"}
        self.monkeypatch = monkeypatch
        self.ports = {port: str(free_port()) for port in PORTS}
        self.behind: list[subprocess.Popen[str]] = []
        self.until_the_end = ExitStack()

    def type(self, block: Block) -> None:
        """Run a block; what fails says where it stands."""
        for name, *words in block.given:
            GIVEN[name](self, *words)
        body = self.here(block.typed)
        if block.language == "python":
            self.run(body, block)
        else:
            for line in shell_lines(body):
                self._line(line, block)
        self.run(self.here(block.then), block)

    def here(self, text: str) -> str:
        """Put free ports in the place of those that a page names."""
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text

    def run(self, body: str, block: Block) -> None:
        """Run Python in the page's namespace."""
        exec(compile("\n" * block.line + body, str(block.page), "exec"), self.names)

    def _line(self, line: str, block: Block) -> None:
        words = shlex.split(line, comments=True)
        with self.monkeypatch.context() as for_this_line:
            alone = all(_SETTING.fullmatch(word) for word in words)
            while words and _SETTING.fullmatch(words[0]):
                name, value = words.pop(0).split("=", 1)
                (self.monkeypatch if alone else for_this_line).setenv(name, value)
            if words:
                self._words(words, line, block)

    def _words(self, words: list[str], line: str, block: Block) -> None:
        if words[-1] == "&":
            self._behind(words[:-1])
        elif words[0] != "sterna":
            subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True, timeout=60)
        else:
            more = shortened(words[1:], block.shorter)
            wanted = 2 * any(words[1:] == mark.split() for mark in block.refused)
            try:
                code = main([*words[1:], *more])
            except SystemExit as stop:  # the option parser's own exits
                code = int(stop.code or 0)
            assert code == wanted, f"{block.where}: {line}: exit code {code}"

    def _behind(self, words: list[str]) -> None:
        """Start a command that goes on; wait until it says that it is there."""
        begins = {"sterna": [sys.executable, "-m", "sterna.cli"], "python": [sys.executable]}
        process = subprocess.Popen(
            [*begins[words[0]], *words[1:]], stdout=subprocess.PIPE, text=True
        )
        self.behind.append(process)
        assert process.stdout is not None
        assert process.stdout.readline(), f"{' '.join(words)}: ended with {process.wait()}"

    def close(self) -> None:
        """End what still runs."""
        self.until_the_end.close()
        for process in self.behind:
            process.terminate()
            assert process.wait(30) in (0, -signal.SIGTERM)
            process.stdout.close()  # type: ignore[union-attr]


def shortened(words: list[str], shorter: tuple[str, ...]) -> list[str]:
    """Return what tests add to a command: the options of the marks that begin as it does."""
    found = []
    for mark in shorter:
        named, options = _split(shlex.split(mark))
        if words[: len(named)] == named:
            found += options
    return found


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    options = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    return words[:options], words[options:]


@dataclass(frozen=True)
class Link:
    """A link of a page to something in the repository."""

    page: Path
    target: str

    @property
    def path(self) -> Path:
        """The file that it names (its own page for a mere #anchor)."""
        name = self.target.partition("#")[0]
        return Path(os.path.normpath(self.page.parent / name)) if name else self.page

    @property
    def anchor(self) -> str:
        """What stands behind #, if anything."""
        return self.target.partition("#")[2]


def links(page: Path) -> Iterator[Link]:
    """Yield the links and pictures of a page that lead into the repository."""
    text = prose(page)
    targets = re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", text)
    targets += re.findall(r"(?:href|src)=\"([^\"]+)\"", text)
    for target in targets:
        if not re.match(r"[a-z]+:", target):
            yield Link(page, target)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings that GitHub and the built site agree on."""
    github, site = set(), set()
    for title in re.findall(r"^#+ +(.*?) *#*$", _FENCE.sub("", page.read_text("utf-8")), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        kept = re.sub(r"[^\w\- ]", "", plain).strip()
        github.add(kept.replace(" ", "-"))
        site.add(re.sub(r"[-\s]+", "-", kept))
    return github & site
