"""Training state on disk: whole or absent, and checked before it is believed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.files import find_file, write_bytes

FORMAT = "sterna-training-state-1"
_PARTS = {"modules": dict, "optimizer": dict, "progress": str, "memory": list}


class CheckpointError(InputError):
    """A checkpoint that cannot be continued; the message ends with a table of what differs."""


def save_state(
    path: str | Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: Mapping[str, Any],
    memory: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write weights, optimiser state, progress and memory as one file, atomically.

    `progress` holds JSON values, `memory` tensors, lists and names (`memory.Memory.to_state`).
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "optimizer": optimizer.state_dict(),
            "progress": json.dumps(dict(progress)),
            "memory": [dict(values) for values in memory],
        },
        buffer,
    )
    write_bytes(path, buffer.getvalue())


def load_state(
    path: str | Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Restore what `save_state` wrote; return its progress and its memory.

    Raises `CheckpointError` for a truncated or foreign file and for weights of another model
    (with a table of missing, extra and mis-shaped keys); then nothing has been changed.
    """
    file = find_file(path)
    state = _read(file)
    differences = [
        row
        for name, module in modules.items()
        for row in compare(module.state_dict(), state["modules"].get(name, {}))
    ]
    if differences:
        lines = [f"  {row}" for row in differences[:20]]
        if len(differences) > 20:
            lines.append(f"  ... and {len(differences) - 20} more")
        raise CheckpointError(
            f"{file}: {len(differences)} keys do not fit this model; resume with the configuration "
            "that wrote it, or choose another --out\n" + "\n".join(lines)
        )
    wanted, found = _group_sizes(optimizer.state_dict()), _group_sizes(state["optimizer"])
    if wanted != found:
        raise CheckpointError(
            f"{file}: its optimiser had other parameter groups; resume with the configuration that "
            f"wrote it, or choose another --out\n  expected: {wanted}\n  found:    {found}"
        )
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    optimizer.load_state_dict(state["optimizer"])
    progress: dict[str, Any] = json.loads(state["progress"])
    return progress, state["memory"]


def dump_memory(memory: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a memory as bytes, for the process that writes the training state."""
    buffer = io.BytesIO()
    torch.save([dict(values) for values in memory], buffer)
    return buffer.getvalue()


def load_memory(content: bytes) -> list[dict[str, Any]]:
    """Return the memory that `dump_memory` made bytes of."""
    memory: list[dict[str, Any]] = torch.load(io.BytesIO(content), "cpu", weights_only=True)
    return memory


def _group_sizes(state: dict[str, Any]) -> list[int]:
    return [len(group["params"]) for group in state["param_groups"]]


def _read(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes make the unpickler fail in a dozen ways
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{file}: not a whole training state ({reason}); delete it and start again\n"
            f"  expected: {FORMAT}\n  found:    {file.stat().st_size} bytes of something else"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        keys = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state)
        raise CheckpointError(
            f"{file}: a checkpoint of another program, not a training state\n"
            f"  expected: format {FORMAT}\n  found:    {keys}"
        )
    missing = [part for part in _PARTS if not isinstance(state.get(part), _PARTS[part])]
    if missing:
        raise CheckpointError(
            f"{file}: not a whole training state; delete it and start again\n"
            f"  expected: {', '.join(_PARTS)}\n  missing:  {', '.join(missing)}"
        )
    return state


def compare(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return one line for every key that is missing, extra or of another shape."""
    rows = [f"missing    {k} {tuple(v.shape)}" for k, v in expected.items() if k not in found]
    rows += [f"extra      {k} {tuple(v.shape)}" for k, v in found.items() if k not in expected]
    rows += [
        f"mis-shaped {k} expected {tuple(v.shape)}, found {tuple(found[k].shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    return rows
