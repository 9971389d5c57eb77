"""Published checkpoints into folders of ours and back: every name, shape, type and value kept.

A converted folder is a saved policy like any other. Beside it lie ``original.json`` (how the file
was laid out, and which of its entries became which of ours) and ``original.safetensors`` (entries
that no navigator reads: task heads, the critic, ...), so that the file can be written again, with
whatever the weights have become.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from sterna import files
from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.pretrained import from_pretrained, save_pretrained
from sterna.models.weights import (
    TASK_HEADS,
    TEXT_BRANCH,
    Kind,
    WeightsError,
    export_original,
    fit_weights,
    only_tensors,
    read_content,
    state_path,
    strip_prefixes,
)

LAYOUT, KEPT = "original.json", "original.safetensors"
FORMAT = 1
_WORDS = "embeddings.word_embeddings.weight"
_DECODER = "mlm_head.predictions.decoder.weight"
_OUTSIDE_BERT = ("global_sap_head.", "local_sap_head.", "sap_fuse_linear.", "og_head.")
_LEFT_OUT = "optimizer"
Wanted = Literal["auto", "navigation", "pretraining"]


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """What became of every entry of a checkpoint."""

    source: str
    target: str
    family: str
    """The published model that these sizes are of."""
    kind: Kind
    parameters: int
    taken: tuple[str, ...]
    """Entries (their own names) that went into the model, or into the file."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Of those, the ones that have another name on the other side."""
    unused: tuple[tuple[str, str], ...] = ()
    """Entries that the model does not read, and why; what was kept of them says so."""
    missing: tuple[str, ...] = ()
    """Entries of the model that the checkpoint lacks (they were drawn at random)."""
    sizes: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            **{name: getattr(self, name) for name in ("source", "target", "family", "kind")},
            "parameters": self.parameters,
            "taken": list(self.taken),
            "renamed": [list(pair) for pair in self.renamed],
            "unused": [list(pair) for pair in self.unused],
            "missing": list(self.missing),
            "sizes": dict(self.sizes),
        }

    def text(self) -> str:
        """Return it for people, long lists cut."""
        lines = [
            f"{self.source} -> {self.target}",
            f"{self.family}, {self.kind}, {self.parameters:,} parameters",
            f"taken {len(self.taken)}, renamed {len(self.renamed)}, unused {len(self.unused)}, "
            f"missing {len(self.missing)}",
        ]
        reasons: dict[str, list[str]] = {}
        for name, why in self.unused:
            reasons.setdefault(why, []).append(name)
        lines += [f"  unused, {why}: {_some(names)}" for why, names in reasons.items()]
        if self.missing:
            lines.append(f"  missing, drawn at random: {_some(self.missing)}")
        return "\n".join(lines)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more


def convert_checkpoint(
    path: str | Path, folder: str | Path, *, kind: Wanted = "auto", heads: int | None = None
) -> WeightsReport:
    """Read a published checkpoint file and save it as a policy folder; see the module.

    `kind` auto keeps text branches where the file has them (a pre-training checkpoint);
    navigation leaves them out of the model. `heads` is needed only for unusual widths. Strict:
    whatever does not fit is a `WeightsError` with a table. Optimizer states are left out.
    """
    source = files.find_file(path)
    content = read_content(source)
    tensors = _tensors(content, source)
    chosen = _kind(tensors) if kind == "auto" else kind
    config, state, found = fit_weights(tensors, source, kind=chosen, heads=heads)
    model = DUET(config)
    model.load_state_dict(state)
    names = {name: strip_prefixes(name) for name in tensors}
    family = family_of(config, twin="img_embeddings.obj_linear.weight" in found.dropped)
    save_pretrained(model, folder, notes=_notes(source, family))
    laid = _Layout(state_path(content), names, state, tensors)
    tree = laid.describe(content, ())
    target = Path(folder)
    files.write_bytes(target / KEPT, save(laid.kept, metadata={"format": "pt"}))
    files.write_json(
        target / LAYOUT, {"format": FORMAT, "kind": chosen, "family": family, "tree": tree}
    )
    return WeightsReport(
        source=str(source),
        target=str(target),
        family=family,
        kind=chosen,
        parameters=sum(value.numel() for value in state.values()),
        taken=tuple(name for name, bare in names.items() if bare in state),
        renamed=tuple((n, bare) for n, bare in names.items() if bare in state and bare != n),
        unused=tuple((n, _why(bare)) for n, bare in names.items() if bare not in state)
        + tuple(laid.aside),
        sizes=vars(config),
    )


def restore_checkpoint(folder: str | Path, path: str | Path) -> WeightsReport:
    """Write a policy folder as a checkpoint file that the original code loads.

    A folder of `convert_checkpoint` gives its file back, name by name; any other gets the layout of
    a fine-tuned checkpoint (`vln_bert`, `critic`), or with text branches of a pre-training one.
    """
    source, target = Path(folder), Path(path)
    model = from_pretrained(source)
    state = {name: value.detach() for name, value in model.state_dict().items()}
    family = family_of(model.config, twin=False)
    if (source / LAYOUT).is_file():
        family, content = _rebuilt(source, state)
    elif model.config.lang2visn:
        content = _pretraining_names(state)
    else:
        content = export_original(model)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    files.write_bytes(target, buffer.getvalue())
    inner = content
    for key in state_path(content):
        inner = inner[key]
    bare = {strip_prefixes(name): name for name in inner}
    others = [name for stripped, name in bare.items() if stripped not in state]
    return WeightsReport(
        source=str(source),
        target=str(target),
        family=family,
        kind="pretraining" if model.config.lang2visn else "navigation",
        parameters=sum(value.numel() for value in state.values()),
        taken=tuple(name for name in state if name in bare),
        renamed=tuple((n, bare[n]) for n in state if n in bare and bare[n] != n),
        unused=tuple((name, "kept from the original file") for name in others),
        sizes=vars(model.config),
    )


def family_of(config: DuetConfig, *, twin: bool = False) -> str:
    """Name the published models that have these sizes; `twin`: a second object linear was there."""
    if (config.hidden_size, config.language_layers, config.cross_layers) != (768, 9, 4):
        return "a DUET of its own sizes"
    known = {
        (768, None): "DUET R2R",
        (512, None): "ScaleVLN R2R, CLIP B/16",
        (1024, None): "ScaleVLN R2R, CLIP H/14",
        (768, 768): "AutoVLN" if twin else "DUET REVERIE or AutoVLN",
        (1024, 768): "ScaleVLN REVERIE, CLIP H/14",
        (768, 2048): "DUET SOON",
    }
    return known.get((config.feature_size, config.object_size), "a DUET of other features")


def _tensors(content: Any, source: Path) -> dict[str, Tensor]:
    """Return the named tensors in what was read."""
    for key in state_path(content):
        content = content[key]
    return only_tensors(content, source)


def _kind(tensors: Mapping[str, Tensor]) -> Kind:
    branches = any(part in name for name in tensors for part in TEXT_BRANCH)
    return "pretraining" if branches else "navigation"


def _why(bare: str) -> str:
    if bare.startswith(TASK_HEADS):
        return "a task head of pre-training, kept for the way back"
    if any(part in bare for part in TEXT_BRANCH):
        return "a text branch of pre-training, kept for the way back"
    if bare.startswith("img_embeddings.obj_"):
        return "objects share the image linear in the navigator, kept for the way back"
    return "read by no navigator, kept for the way back"


def _notes(source: Path, family: str) -> str:
    return (
        f"Converted from `{source.name}` ({family}). The weights' own terms hold; "
        f"`{LAYOUT}` and `{KEPT}` are for the way back (`sterna models convert`)."
    )


class _Layout:
    """Describes a checkpoint as JSON, and collects what has to be kept beside the model."""

    def __init__(
        self,
        path: tuple[str, ...],
        names: Mapping[str, str],
        state: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor],
    ) -> None:
        self.path, self.names, self.state = path, names, state
        self.kept: dict[str, Tensor] = {}
        self.aside: list[tuple[str, str]] = []
        words = next((tensors[n] for n, bare in names.items() if bare == _WORDS), None)
        decoder = next((tensors[n] for n, bare in names.items() if bare == _DECODER), None)
        self.tied = words is not None and decoder is not None and torch.equal(words, decoder)

    def describe(self, value: Any, place: tuple[str, ...]) -> dict[str, Any] | None:
        """Return a node: a dictionary, a tensor of ours, a kept tensor, a plain value."""
        where = "/".join(place)
        if isinstance(value, Tensor):
            return self._tensor(value, place, where)
        if isinstance(value, dict) and place[-1:] != (_LEFT_OUT,):
            nodes = [
                [key, self.describe(item, (*place, key))]
                for key, item in value.items()
                if isinstance(key, str)
            ]
            return {"dict": [pair for pair in nodes if pair[1] is not None]}
        if value is None or isinstance(value, bool | int | str):
            return {"value": value}
        if isinstance(value, float) and value == value and abs(value) != float("inf"):
            return {"value": value}
        why = "the optimizer's state" if place[-1:] == (_LEFT_OUT,) else "neither tensor nor plain"
        self.aside.append((where, f"{why}, left out"))
        return None

    def _tensor(self, value: Tensor, place: tuple[str, ...], where: str) -> dict[str, Any]:
        kind = str(value.dtype).removeprefix("torch.")
        bare = self.names.get(place[-1]) if place[:-1] == self.path else None
        if bare in self.state:
            return {"ours": bare, "dtype": kind}
        if bare == _DECODER and self.tied:
            return {"ours": _WORDS, "dtype": kind}
        self.kept[where] = value.detach().clone().contiguous()
        return {"kept": where}


def _rebuilt(folder: Path, state: Mapping[str, Tensor]) -> tuple[str, Any]:
    """Return the family and the content of the file that a folder was converted from."""
    described = files.read_json(folder / LAYOUT)
    kept = read_content(folder / KEPT)
    try:
        if described["format"] != FORMAT:
            raise InputError(
                f"{folder / LAYOUT}: expected format {FORMAT}, found {described['format']}; "
                "update sterna"
            )
        return str(described["family"]), _build(described["tree"], state, kept)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise WeightsError(
            f"{folder / LAYOUT}: does not describe this folder's weights ({error!r}); convert the "
            "original file again"
        ) from error


def _build(node: Any, state: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> Any:
    if "dict" in node:
        return {key: _build(item, state, kept) for key, item in node["dict"]}
    if "ours" in node:
        return state[node["ours"]].to(getattr(torch, node["dtype"]))
    return kept[node["kept"]] if "kept" in node else node["value"]


def _pretraining_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name if name.startswith(_OUTSIDE_BERT) else f"bert.{name}": value
        for name, value in state.items()
    }
