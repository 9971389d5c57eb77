"""Put a report's values, style and script into one HTML file."""

from __future__ import annotations

import html
import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from sterna.files import write_text
from sterna.show.report.parts import Report


def write_report(report: Report, out: str | Path) -> Path:
    """Write a report as one self-contained HTML file; return its path."""
    path = Path(out)
    write_text(path, page(report))
    return path


def page(report: Report) -> str:
    """Return the page's text."""
    parts = {
        "TITLE": html.escape(report.title),
        "STYLE": _asset("page.css"),
        "DATA": _script_json(_rounded(asdict(report))),
        "SCRIPT": _asset("page.js"),
    }
    text = _asset("page.html")
    for name, value in parts.items():
        text = text.replace(f"@@{name}@@", value)
    return text


def _asset(name: str) -> str:
    return (files("sterna.show.report") / name).read_text(encoding="utf-8")


def _script_json(values: Any) -> str:
    """Return JSON that cannot close the script element it stands in."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _rounded(value: Any) -> Any:
    """Round all numbers to four digits behind the point: nobody sees more."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
