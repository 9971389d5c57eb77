"""Fields of a file that the library does not read, kept word for word so that writers give them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from sterna.data.episodes import Episode


def rest_of(entry: Mapping[str, Any], known: Collection[str]) -> str | None:
    """Return the fields of `entry` that are not `known` as JSON text; None where there are none.

    NaN and infinity, which are no JSON (some published files hold them), become null.
    """
    others = {key: _strict(value) for key, value in entry.items() if key not in known}
    return json.dumps(others, allow_nan=False, sort_keys=True) if others else None


def rest_fields(episode: Episode) -> dict[str, Any]:
    """Return what `rest_of` kept of an episode's entry."""
    fields: dict[str, Any] = {} if episode.rest is None else json.loads(episode.rest)
    return fields


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
