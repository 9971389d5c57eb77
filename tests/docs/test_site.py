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


def build(out: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason=f"{name} is not installed: the site is not built")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """All pages and docstrings are there, comments stay comments, nothing is fetched elsewhere."""
    build(tmp_path)
    for page in PAGES[1:]:
        name = page.relative_to(DOCS).with_suffix(".html")
        built = tmp_path / (name.with_name("index.html") if name.stem == "README" else name)
        text = built.read_text("utf-8")
        assert "<h1" in text and "&lt;!--" not in text, name
        shown = re.sub(r"<!--.*?-->", "", text, flags=re.S)
        loaded = re.findall(r"<(?:script|img)[^>]* src=\"(https?:[^\"]+)\"", shown)
        loaded += re.findall(r"<link[^>]* rel=\"stylesheet\"[^>]* href=\"(https?:[^\"]+)\"", shown)
        assert not loaded, (name, loaded)
    reference = (tmp_path / "reference" / "metrics.html").read_text("utf-8")
    assert 'id="sterna.metrics.protocol.Protocol"' in reference
    assert "Protocols: what a score means" in reference


def test_the_navigation_names_files_that_exist() -> None:
    """Without mkdocs too: a renamed page is found here."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r"([\w/\-]+\.md)$", text, re.M))
    assert named == {str(page.relative_to(DOCS)) for page in PAGES[1:]}
