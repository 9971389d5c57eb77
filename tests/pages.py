"""README and docs as the tests read them: code blocks with their marks, command lines, links.

What readers do not see are comments in front of a block or anywhere on a page:

    <!-- not run: takes hours -->            the next block is not executed; why
    <!-- shorter: train --iterations 4 -->   in tests, what `sterna train` of the next block adds
    <!-- needs: transformers, onnx -->       the page's blocks need these modules (an extra)
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sterna.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("sh", "bash", "console")
NO_CODE = ("text", "json")
"""Languages of blocks that nobody types: drawings, answers, what a command printed."""
PORT = "8765"
"""`sterna serve` listens there; tests take a free one."""

_FENCE = re.compile(r"^([ ]*)```([^\n`]*)\n(.*?)^\1```[ ]*$", re.M | re.S)
_MARKS = re.compile(r"(?:<!--(?:(?!-->).)*-->\s*)+\Z", re.S)
_MARK = re.compile(r"<!--\s*(not run|shorter):\s*(.*?)\s*-->", re.S)
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
    shorter: tuple[str, ...]
    """What tests add to its commands, each `COMMAND OPTIONS`."""

    @property
    def where(self) -> str:
        """Its page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words behind each `sterna` on its lines."""
        lines = shell_lines(self.body) if self.language in SHELL else []
        return [words for line in lines for words in sterna_words(line)]


def blocks(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = _MARKS.search(text[: match.start()])
        marks = _MARK.findall(before.group()) if before else []
        indent = len(match.group(1))
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start()) + 1,
                language=match.group(2).strip(),
                body="\n".join(line[indent:] for line in match.group(3).splitlines()) + "\n",
                not_run=next((why for kind, why in marks if kind == "not run"), None),
                shorter=tuple(what for kind, what in marks if kind == "shorter"),
            )
        )
    return found


def prose(page: Path) -> str:
    """Return a page without its fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", _FENCE.sub("", page.read_text("utf-8")), flags=re.S)


def spans(page: Path) -> list[str]:
    """Return the commands that its sentences and tables name (`sterna ...` in backquotes)."""
    return [span.replace("\\|", "|") for span in _SPAN.findall(prose(page))]


def needed(page: Path) -> list[str]:
    """Return the modules that a page's blocks need beyond the package's own."""
    found = _NEEDS.findall(page.read_text("utf-8"))
    return [name.strip() for names in found for name in names.split(",")]


def shell_lines(body: str) -> list[str]:
    """Return the lines of a shell block, continued ones joined, without prompts."""
    lines = body.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.strip()]


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

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Go to an empty folder, without anybody's data."""
        monkeypatch.chdir(folder)
        monkeypatch.delenv("STERNA_DATA", raising=False)
        self.names: dict[str, Any] = {"__name__": "page"}
        self.monkeypatch = monkeypatch
        self.port = str(free_port())
        self.behind: list[subprocess.Popen[str]] = []

    def type(self, block: Block) -> None:
        """Run a block; what fails says where it stands."""
        body = block.body.replace(PORT, self.port)
        if block.language == "python":
            exec(compile("\n" * block.line + body, str(block.page), "exec"), self.names)
            return
        for line in shell_lines(body):
            self._line(line, block)

    def _line(self, line: str, block: Block) -> None:
        words = shlex.split(line, comments=True)
        while words and _SETTING.fullmatch(words[0]):
            name, value = words.pop(0).split("=", 1)
            self.monkeypatch.setenv(name, value)
        if not words:
            return
        if words[0] != "sterna":
            subprocess.run(["bash", "-euc", line], check=True, timeout=60)
        elif words[-1] == "&":
            self._behind(words[1:-1])
        else:
            more = shortened(words[1:], block.shorter)
            try:
                code = main([*words[1:], *more])
            except SystemExit as stop:  # the option parser's own exits
                code = int(stop.code or 0)
            assert code == 0, f"{block.where}: {line}: exit code {code}"

    def _behind(self, words: list[str]) -> None:
        """Start a command that goes on; wait until it says that it is there."""
        process = subprocess.Popen(
            [sys.executable, "-m", "sterna.cli", *words], stdout=subprocess.PIPE, text=True
        )
        self.behind.append(process)
        assert process.stdout is not None
        assert process.stdout.readline(), f"sterna {' '.join(words)}: ended with {process.wait()}"

    def close(self) -> None:
        """End what still runs."""
        for process in self.behind:
            process.terminate()
            assert process.wait(30) == 0
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
