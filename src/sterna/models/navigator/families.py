"""Which transformers classes a family of models is made of; imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sterna.errors import InputError

_NAMES = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}
FAMILIES = tuple(_NAMES)
"""Families that a navigator can be made of, as `model_type` in config.json names them."""


def transformers() -> Any:
    """Import transformers; `InputError` says how to install it."""
    try:
        return import_module("transformers")
    except ImportError as error:
        raise InputError(
            f"vision-language navigators need transformers ({error}); pip install 'sterna[vlm]'"
        ) from error


def peft() -> Any:
    """Import peft; `InputError` says how to install it."""
    try:
        return import_module("peft")
    except ImportError as error:
        raise InputError(f"LoRA needs peft ({error}); pip install 'sterna[vlm]'") from error


def known(family: str) -> str:
    """Return a family's name in class names; `InputError` for one that is not supported."""
    if family not in _NAMES:
        raise InputError(f"model: expected a family of {', '.join(FAMILIES)}, found {family!r}")
    return _NAMES[family]


def config_class(family: str) -> Any:
    """Return the configuration class of a family."""
    return getattr(transformers(), f"{known(family)}Config")


def causal_class(family: str) -> Any:
    """Return the model class of a family, head included."""
    return getattr(transformers(), f"{known(family)}ForConditionalGeneration")
