"""The site builds without a warning, and every page is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pages import PAGES, ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason=f"{name} is not installed: the site is not built")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    return out


def test_every_page_is_built(site: Path) -> None:
    for page in PAGES[1:]:
        name = page.relative_to(DOCS).with_suffix(".html")
        built = site / (name.with_name("index.html") if name.stem == "README" else name)
        assert "<h1" in built.read_text("utf-8"), name


def test_the_reference_holds_docstrings(site: Path) -> None:
    text = (site / "reference" / "metrics.html").read_text("utf-8")
    assert 'id="sterna.metrics.protocol.Protocol"' in text
    assert "Protocols: what a score means" in text


def test_marks_for_tests_are_hidden(site: Path) -> None:
    """Comments stay comments, and nothing is fetched from other machines."""
    for page in site.rglob("*.html"):
        if page.parent.name == "example":
            continue
        text = page.read_text("utf-8")
        assert "&lt;!--" not in text, page.name
        shown = re.sub(r"<!--.*?-->", "", text, flags=re.S)
        loaded = re.findall(r"<(?:script|img)[^>]* src=\"(https?:[^\"]+)\"", shown)
        loaded += re.findall(r"<link[^>]* rel=\"stylesheet\"[^>]* href=\"(https?:[^\"]+)\"", shown)
        assert not loaded, (page.name, loaded)


def test_the_navigation_names_files_that_exist() -> None:
    """Without mkdocs too: a renamed page is found here."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r"([\w/\-]+\.md)$", text, re.M))
    assert named == {str(page.relative_to(DOCS)) for page in PAGES[1:]}
