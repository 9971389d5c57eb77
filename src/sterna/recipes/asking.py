"""Vision-language navigators on small computers, exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.edge.asked_folder import export_navigator
from sterna.edge.routed_files import Routed
from sterna.errors import InputError
from sterna.files import sha256
from sterna.models.navigator.folder import SETTINGS, load

PROTOCOL = "protocol.json"


def navigator_folder(folder: Path) -> Path | None:
    """Return where a navigator's weights lie: the folder, or the `last` of a run; None: nowhere."""
    for found in (folder, folder / "last"):
        if (found / SETTINGS).is_file():
            return found
    return None


def open_stack(folder: Path) -> NavigatorStack:
    """Open a navigator as a stack; `InputError` for an adapter beside its base."""
    navigator = load(folder)
    if navigator.adapted:
        raise InputError(
            f"{folder}: an adapter beside its base; merge it first (save the merged model)"
        )
    return NavigatorStack(navigator.eval())


def run_export_navigator(
    folder: Path,
    to: Path,
    *,
    int8: int,
    routed: Routed | None = None,
    keep: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Export the navigator in `folder` (see `navigator_folder`), or a routed student of one.

    The protocol that it was trained for is kept beside it. Returns its card.
    """
    if routed is None:
        found = navigator_folder(folder)
        assert found is not None
        stack = open_stack(found)
        files = sorted(found.glob("*.safetensors"))
        about = {"weights_sha256": {file.name: sha256(file) for file in files}}
    else:
        assert isinstance(routed.stack, NavigatorStack)
        stack, found, about = routed.stack, folder, dict(routed.about)
    near = (found / PROTOCOL, found.parent / PROTOCOL)
    protocol = next((file for file in near if file.is_file()), None)
    extra = {} if protocol is None else {PROTOCOL: protocol}
    return export_navigator(
        stack, to, routed=routed, int8=int8, keep=keep, about=about, beside=extra
    )
