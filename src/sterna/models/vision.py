"""Image encoders of others, run as their makers run them: pictures in, features and logits out.

What is read is what the field reads: of CLIP and SigLIP the image features (of CLIP behind the
projection), of a classifier the vector that its last linear layer reads (HAMT's "pooled output" of
ViT-B/16) and its logits, of anything else the pooled output or the first token. A model folder is
transformers' (``config.json``), OpenCLIP's (``open_clip_config.json``) or, where timm is installed,
one of ``timm:NAME``. Weights are safetensors; nothing of a folder is executed.

Legend: n pictures, F feature width, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from sterna.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]
Pool = Literal["auto", "cls", "mean"]
POOLS: tuple[Pool, ...] = ("auto", "cls", "mean")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TIMM = "timm:"
Prepare = Callable[[Image.Image], Tensor]
"""A picture, resized, cropped and normalised as a model's maker does: [3, h, w]."""
Read = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Pixels [n, 3, h, w] to features [n, F] and logits [n, K] or None."""


@dataclass(frozen=True)
class Opened:
    """A network of others, and how it is fed and read."""

    net: nn.Module
    prepare: Prepare
    read: Read
    settings: Any = None
    """transformers' image processor, where the model has one."""


class VisionEncoder:
    """An image encoder ready to run; `size` is the feature width F, `classes` K (0: no logits).

    `digest` is a hash of its weights. Inference only: eval mode, no gradient.
    """

    def __init__(
        self, name: str, opened: Opened, *, precision: Precision = "fp32", device: str = "cpu"
    ) -> None:
        """Move a network to a device; most callers want `open_vision`."""
        self.name, self.precision, self.device = name, precision, torch.device(device)
        self.digest = weights_digest(opened.net)
        opened.net.eval().requires_grad_(False).to(self.device)
        self.prepare_one, self._read = opened.prepare, opened.read
        blank = self.prepare([np.zeros((48, 64, 3), np.uint8)])
        features, logits = self(blank)
        self.size, self.classes = features.shape[1], 0 if logits is None else logits.shape[1]

    def prepare(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Resize, crop and normalise pictures uint8 [H, W, 3] as the model's maker does."""
        return torch.stack([self.prepare_one(Image.fromarray(picture)) for picture in pictures])

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Encode prepared pixels [n, 3, h, w]: features float32 [n, F], logits [n, K] or None."""
        narrow = self.precision != "fp32"
        cast = torch.autocast(self.device.type, DTYPES[self.precision]) if narrow else nullcontext()
        with cast:
            features, logits = self._read(pixels.to(self.device, non_blocking=True))
        return _numbers(features), None if logits is None else _numbers(logits)


def open_vision(
    name: str, *, precision: Precision = "fp32", device: str = "auto", pool: Pool = "auto"
) -> VisionEncoder:
    """Open an image encoder by folder, by name on the Hub, or as ``timm:NAME`` (timm's own).

    `pool` says what stands for a picture where the model itself does not: the pooled output if it
    was trained, else the first token (auto), the first token (cls) or the mean of all (mean).
    Raises `InputError` for a missing library, no image model, or weights that do not fit it.
    """
    if precision not in DTYPES or pool not in POOLS:
        raise InputError(
            f"encoder: precision is one of {', '.join(DTYPES)}, pool of {', '.join(POOLS)}; "
            f"found {precision!r}, {pool!r}"
        )
    where = find_device(device)
    folder = Path(name)
    if name.startswith(TIMM):
        opened = _open_timm(name.removeprefix(TIMM))
    elif (folder / "open_clip_config.json").is_file():
        from sterna.models.openclip import open_openclip

        net, prepare = open_openclip(folder)
        opened = Opened(net, prepare, partial(_read_clip, net))
    else:
        opened = open_transformers(name, pool)
    return VisionEncoder(
        folder.name if folder.is_dir() else name, opened, precision=precision, device=where
    )


def find_device(device: str) -> str:
    """Return the device to run on: `device`, or for auto cuda where there is one, else cpu."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r}: expected auto, cpu, cuda or cuda:N") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: no CUDA device here; use --device cpu")
    return str(found)


def need_transformers(name: str) -> Any:
    """Import transformers; `InputError` that names the extra where it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"encoder {name!r}: needs the transformers library; pip install 'sterna[vlm]'"
        ) from error
    return transformers


def open_transformers(name: str, pool: Pool = "auto") -> Opened:
    """Open an image model of transformers by folder or name; see `open_vision`."""
    library = need_transformers(name)
    try:
        with _hushed(library):
            settings = library.AutoImageProcessor.from_pretrained(name, backend="pil")
            config = library.AutoConfig.from_pretrained(name)
            architecture = (config.architectures or [""])[0]
            classifier = architecture.endswith("ForImageClassification")
            kind = library.AutoModelForImageClassification if classifier else library.AutoModel
            net, info = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"encoder {name!r}: no image model to be read there: {reason}") from error
    lacking = {str(key) for key in info["missing_keys"]} | {
        str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]
    }
    untrained = {key for key in lacking if "pooler." in key}
    if lacking - untrained:
        raise InputError(
            f"encoder {name!r}: {len(lacking - untrained)} weights of {architecture or 'the model'}"
            f" are not in the file, first {min(lacking - untrained)}; fetch it again"
        )
    for key in untrained:  # never read, and drawn anew at every load: the digest must not see it
        nn.init.zeros_(net.get_parameter(key))
    prepare = partial(_prepare, settings)
    if classifier:
        return Opened(net, prepare, _Classifier(name, net), settings)
    if hasattr(net, "get_image_features"):
        return Opened(net, prepare, partial(_read_clip, net), settings)
    pooled = pool == "auto" and not untrained
    return Opened(net, prepare, partial(_read_tokens, net, pooled, pool == "mean"), settings)


@contextmanager
def _hushed(library: Any) -> Iterator[None]:
    """Keep back what transformers says of loading: what is wrong, we say ourselves."""
    logging = library.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _prepare(settings: Any, picture: Image.Image) -> Tensor:
    pixels: Tensor = settings(images=[picture], return_tensors="pt")["pixel_values"][0]
    return pixels


def _read_clip(net: Any, pixels: Tensor) -> tuple[Tensor, None]:
    """Read image features: behind CLIP's projection, of SigLIP the pooled output."""
    out = net.get_image_features(pixel_values=pixels)
    return out if isinstance(out, Tensor) else out.pooler_output, None


def _read_tokens(net: Any, pooled: bool, mean: bool, pixels: Tensor) -> tuple[Tensor, None]:
    """Read the pooled output, else the first or the mean of the tokens [n, T, F] (or [n, F, ..])"""
    out = net(pixel_values=pixels)
    found = getattr(out, "pooler_output", None) if pooled else None
    if found is not None:
        return found.flatten(1), None
    tokens = out.last_hidden_state
    if tokens.ndim == 4:  # a convolutional network's map
        return tokens.flatten(2).mean(2), None
    return tokens.mean(1) if mean else tokens[:, 0], None


class _Classifier:
    """Reads what the last linear layer of a classifier is given, and what it says."""

    def __init__(self, name: str, net: Any) -> None:
        self.net, self._given = net, torch.empty(0)
        heads = [
            (key, module)
            for key, module in net.named_modules()
            if isinstance(module, nn.Linear) and module.out_features == net.config.num_labels
        ]
        last = [module for key, module in heads if "classifier" in key or "head" in key]
        if len(last) != 1:
            raise InputError(
                f"encoder {name!r}: expected one last linear layer of {net.config.num_labels} "
                f"classes, found {len(last)}; use the model without its classifier"
            )
        last[0].register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._given = given[0]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(pixel_values=pixels).logits
        return self._given.flatten(1), logits


def _open_timm(name: str) -> Opened:
    try:
        import timm
        from timm.data import create_transform, resolve_model_data_config
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"encoder {TIMM}{name}: needs timm; pip install timm (with a torchvision that fits "
            "your torch)"
        ) from error
    folder = Path(name)
    named = f"local-dir:{folder}" if folder.is_dir() else name
    try:
        net = timm.create_model(named, pretrained=True)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"encoder {TIMM}{name}: cannot be opened: {reason}") from error
    transform = create_transform(**resolve_model_data_config(net), is_training=False)
    return Opened(net, transform, partial(_read_timm, net))


def _read_timm(net: Any, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Read the pooled vector before the head, and the head's logits (HAMT's extractor)."""
    tokens = net.forward_features(pixels)
    features = net.forward_head(tokens, pre_logits=True)
    return features, net.forward_head(tokens) if net.num_classes else None


def _numbers(values: Tensor) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = values.float().cpu().numpy()
    return numbers


def weights_digest(net: nn.Module) -> str:
    """Return a hash of all names and values of a network."""
    total = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        total.update(name.encode())
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(raw.numpy().tobytes())
    return total.hexdigest()
