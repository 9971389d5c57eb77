"""What all commands share: parsing options, finding data, printing text or JSON."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import tyro

from sterna.errors import InputError
from sterna.processes import is_main


def find_data(root: Path | None) -> Path:
    """Return the data folder: --data, else STERNA_DATA, else ./data; `InputError` for none."""
    from sterna.recipes.options import find_data

    return find_data(root, os.environ.get("STERNA_DATA"))


def say(text: str, value: Any, as_json: bool) -> None:
    """Print a result as text, or as one JSON object; of several processes the main one does."""
    if is_main():
        print(json.dumps(value) if as_json else text)


def parse(kind: Any, argv: Sequence[str], prog: str, description: str | None = None) -> Any:
    """Read options; a value that a configuration refuses is an `InputError`, one line."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, args=list(argv), prog=f"sterna {prog}", description=description)
    except SystemExit as stop:
        refused = _refused(stop)
        if refused is not None:
            raise InputError(str(refused)) from None
        sys.stderr.write(said.getvalue())
        raise


def _refused(error: BaseException | None) -> InputError | None:
    """Find the `InputError` behind the exit of the option parser, if there is one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error
