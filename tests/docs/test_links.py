"""Links of README and docs lead to files and headings that exist, on GitHub and on the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import PAGES, ROOT, anchors, links

DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        where = f"{page.relative_to(ROOT)}: {link.target}"
        assert link.path.exists(), where
        if link.anchor:
            assert link.path.suffix == ".md" and link.anchor in anchors(link.path), where


def test_pages_of_the_site_link_within_it() -> None:
    """The site holds docs/ alone; a folder is no page there."""
    for page in PAGES[1:]:
        for link in links(page):
            where = f"{page.relative_to(ROOT)}: {link.target}"
            assert link.path.is_relative_to(DOCS) and link.path.is_file(), where


def test_anchors_are_those_of_headings(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`\n## [Three](x.md), four\n```sh\n# none\n```\n### A & b\n")
    assert anchors(page) == {"one-two", "three-four"}
