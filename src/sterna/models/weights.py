"""Published checkpoints in and out: DUET, ScaleVLN and their relatives, checked name by name."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sterna.errors import InputError
from sterna.files import find_file
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET

Kind = Literal["navigation", "pretraining"]
Shape = tuple[int, ...]

PREFIXES = ("module.", "vln_bert.", "bert.")
"""Wrappers' names in front of a parameter's own name."""
TASK_HEADS = ("mlm_head.", "image_classifier.", "obj_classifier.")
"""Heads of pre-training tasks; no part of the navigator."""
TEXT_BRANCH = (".lang_self_att.", ".lang_inter.", ".lang_output.")
"""Branches of the cross-modal layers that only pre-training runs."""
UNUSED = ("token_type_embedding.weight", "embeddings.position_ids", "state2value.", "pooler.")
"""Stored by some repositories, read by none of their navigators."""


class WeightsError(InputError):
    """A checkpoint that does not fit: one line, then a table of names and shapes."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the entries of a checkpoint."""

    path: Path
    kind: Kind
    loaded: int
    """Entries that went into the model."""
    dropped: tuple[str, ...]
    """Names (prefixes stripped) left out on purpose."""
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    """Pre-training task heads, kept when `kind` is pretraining."""

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.path}: {self.loaded} {self.kind} entries loaded, {len(self.dropped)} dropped"


def strip_prefixes(name: str) -> str:
    """Remove `module.`, `vln_bert.` and `bert.` from the front, repeatedly."""
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a .safetensors or torch file; never runs code from the file.

    Accepts a flat dictionary, or one below `vln_bert` / `state_dict` / `model`. Raises
    `WeightsError` for a truncated, foreign or unsafe file.
    """
    file = find_file(path)
    content = read_content(file)
    for key in state_path(content):
        content = content[key]
    return only_tensors(content, file)


def read_content(path: str | Path) -> Any:
    """Read a .safetensors or torch file as it is (nested, other values too); never runs code.

    Of torch files only tensors, plain values and NumPy's number types are allowed. Raises
    `WeightsError` for a truncated, foreign or unsafe file.
    """
    file = find_file(path)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise _unreadable(file, error) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise _unreadable(file, error) from error


def state_path(content: Any) -> tuple[str, ...]:
    """Return the keys under which the named tensors of a checkpoint lie; () for a flat one."""
    path: list[str] = []
    for key in ("vln_bert", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            path.append(key)
    return tuple(path)


def load_weights(
    path: str | Path, *, kind: Kind = "navigation", heads: int | None = None
) -> tuple[DuetConfig, dict[str, Tensor], LoadReport]:
    """Read a published checkpoint file; see `read_tensors` and `fit_weights`."""
    file = find_file(path)
    return fit_weights(read_tensors(file), file, kind=kind, heads=heads)


def fit_weights(
    tensors: Mapping[str, Tensor],
    source: str | Path,
    *,
    kind: Kind = "navigation",
    heads: int | None = None,
) -> tuple[DuetConfig, dict[str, Tensor], LoadReport]:
    """Map named tensors of a checkpoint to (sizes, state dict of `DUET(sizes)`, report).

    Sizes are read from the tensors; the number of attention heads cannot be, so it is `heads`, or
    by default 12 for widths 96, 312, 384 and 768 and width / 64 otherwise. `navigation` drops what
    only pre-training needs (rule 3 of the key map), `pretraining` keeps the text branches in the
    model and the task heads in the report. A missing, unexpected, mis-shaped or non-finite entry is
    a `WeightsError` with a table. Where objects are as wide as views, DUET's navigator sends both
    through one linear: a separate object linear of that width is dropped, as the original does.
    """
    file = Path(source)
    named = _strip_all(tensors, file)
    kept, dropped, task_heads = _sort_out(named, kind)
    config = read_sizes(kept, kind=kind, heads=heads, source=str(file))
    if config.shared_objects:
        twins = [name for name in kept if name.startswith("img_embeddings.obj_")]
        dropped += twins
        kept = {name: value for name, value in kept.items() if name not in twins}
    state = {name: value.to(torch.float32) for name, value in kept.items()}
    require_same(expected_shapes(config), state, str(file))
    report = LoadReport(file, kind, len(state), tuple(sorted(dropped)), task_heads)
    return config, state, report


def expected_shapes(config: DuetConfig) -> dict[str, Shape]:
    """Return name and shape of every entry of `DUET(config).state_dict()`, without memory."""
    with torch.device("meta"):
        model = DUET(config)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def require_same(expected: Mapping[str, Shape], state: Mapping[str, Tensor], source: str) -> None:
    """Raise `WeightsError` unless `state` has exactly these names and shapes, all finite."""
    found = {name: tuple(value.shape) for name, value in state.items()}
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    if missing or extra or wrong:
        raise WeightsError(
            f"{source}: weights do not fit the model: {len(missing)} missing, {len(extra)} "
            f"unexpected, {len(wrong)} mis-shaped; use a checkpoint of this architecture, "
            "fetched whole\n" + "\n".join(_table(expected, found, [*missing, *extra, *wrong]))
        )
    bad = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if bad:
        raise WeightsError(
            f"{source}: {len(bad)} entries hold NaN or infinity, first {bad[0]}; fetch it again"
        )


def read_sizes(
    state: Mapping[str, Tensor], *, kind: Kind, heads: int | None, source: str
) -> DuetConfig:
    """Read a `DuetConfig` from the shapes of a state dict with stripped names."""
    words = _shape(state, "embeddings.word_embeddings.weight", source)
    factored = "embeddings.word_map.weight" in state
    width = _shape(state, "embeddings.word_map.weight", source)[0] if factored else words[1]
    objects = _objects(state)
    features = _shape(state, "img_embeddings.img_linear.weight", source)[1]
    return DuetConfig(
        hidden_size=width,
        heads=heads or default_heads(width),
        ffn_size=_shape(state, "lang_encoder.layer.0.intermediate.dense.weight", source)[0],
        language_layers=_count(state, "lang_encoder.layer."),
        panorama_layers=_count(state, "img_embeddings.pano_encoder.layers."),
        cross_layers=_count(state, "global_encoder.encoder.x_layers."),
        vocab_size=words[0],
        word_size=words[1] if factored else None,
        max_positions=_shape(state, "embeddings.position_embeddings.weight", source)[0],
        max_steps=_shape(state, "global_encoder.gmap_step_embeddings.weight", source)[0],
        feature_size=features,
        object_size=features if objects == 0 else objects,
        graph_bias="global_encoder.sprel_linear.weight" in state,
        lang2visn=kind == "pretraining",
    )


def default_heads(width: int) -> int:
    """Return the usual number of heads of a width: 12 for the BERT family, else width / 64."""
    return 12 if width in (96, 312, 384, 768) else max(1, width // 64)


def export_original(model: DUET) -> dict[str, Any]:
    """Return a checkpoint as the original DUET code loads it (its `recover_state`).

    {'vln_bert': {'epoch', 'state_dict'}, 'critic': {'epoch', 'state_dict'}}; the critic is created
    there but used by no loss, so it holds zeros. Save it with `torch.save`. `InputError` for a
    model whose word table is narrower than its words, which that code does not have.
    """
    if model.config.word_size is not None:
        raise InputError(
            f"original: the model has a word table of width {model.config.word_size} and a linear "
            "behind it, which the original code lacks; export one with word_size None"
        )
    state = {f"vln_bert.{name}": value.detach() for name, value in model.state_dict().items()}
    critic = {"0.weight": (512, 768), "0.bias": (512,), "3.weight": (1, 512), "3.bias": (1,)}
    zeros = {f"state2value.{name}": torch.zeros(shape) for name, shape in critic.items()}
    return {
        "vln_bert": {"epoch": 0, "state_dict": state},
        "critic": {"epoch": 0, "state_dict": zeros},
    }


def _numpy_scalars() -> list[Any]:
    """Plain number types that old optimizer states pickle; harmless, so allowed by name."""
    scalar = np.float64(0).__reduce__()[0]
    types = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *types]


def _unreadable(file: Path, error: Exception) -> WeightsError:
    reason = (
        str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    )
    return WeightsError(
        f"{file}: expected a .safetensors or torch file of plain tensors, found something else or "
        f"a file cut short ({reason}); fetch it again or convert it to .safetensors"
    )


def only_tensors(content: object, file: Path) -> dict[str, Tensor]:
    """Return `content` if it is named tensors and nothing else; `WeightsError` if it is not."""
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f"{file}: expected named tensors, found {type(content).__name__}; "
            "give the checkpoint of a navigator"
        )
    foreign = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise WeightsError(
            f"{file}: expected named tensors only, found other entries such as {foreign[0]!r}; "
            "give the file that holds the model's state dict"
        )
    return {str(name): value for name, value in content.items()}


def _strip_all(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, value in tensors.items():
        bare = strip_prefixes(name)
        if bare in named:
            raise WeightsError(f"{file}: two entries are called {bare}; keep one model in a file")
        named[bare] = value
    return named


def _sort_out(
    named: Mapping[str, Tensor], kind: Kind
) -> tuple[dict[str, Tensor], list[str], dict[str, Tensor]]:
    """Split entries into (kept, dropped names, task heads)."""
    kept: dict[str, Tensor] = {}
    dropped: list[str] = []
    heads: dict[str, Tensor] = {}
    for name, value in named.items():
        if name.startswith(TASK_HEADS) and kind == "pretraining":
            heads[name] = value
        elif name.startswith((*TASK_HEADS, *UNUSED)) or (
            kind == "navigation" and any(part in name for part in TEXT_BRANCH)
        ):
            dropped.append(name)
        else:
            kept[name] = value
    return kept, dropped, heads


def _objects(state: Mapping[str, Tensor]) -> int | None:
    """Width of object features: None without objects, 0 where they share the image linear."""
    if "og_head.net.0.weight" not in state:
        return None
    own = state.get("img_embeddings.obj_linear.weight")
    return 0 if own is None or own.dim() != 2 else own.shape[1]


def _shape(state: Mapping[str, Tensor], name: str, source: str) -> Shape:
    if name not in state or state[name].dim() != 2:
        found = ", ".join(list(state)[:3]) or "nothing"
        raise WeightsError(
            f"{source}: expected a DUET-style navigator with a matrix {name}, found {len(state)} "
            f"other entries ({found}); give a DUET, ScaleVLN or sterna checkpoint"
        )
    return tuple(state[name].shape)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    numbers = {name[len(prefix) :].split(".", 1)[0] for name in state if name.startswith(prefix)}
    return len([number for number in numbers if number.isdigit()])


def _table(
    expected: Mapping[str, Shape], found: Mapping[str, Shape], names: list[str]
) -> Iterator[str]:
    width = max(len(name) for name in names)
    yield f"  {'name':<{width}}  {'expected':<14}  found"
    for name in names[:60]:
        wanted, got = expected.get(name, "-"), found.get(name, "missing")
        yield f"  {name:<{width}}  {wanted!s:<14}  {got}"
    if len(names) > 60:
        yield f"  ... and {len(names) - 60} more"
