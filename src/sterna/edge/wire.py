"""Messages of `sterna serve` as bytes: JSON, or a JSON header with raw float32 arrays behind it.

The second format (`BINARY`) is, in this order:

    8 bytes    ``STERNA1`` and a newline
    4 bytes    H, the length of the header, unsigned, little-endian
    H bytes    the message as UTF-8 JSON, in which an array is {"shape": [...], "offset": N}
    the rest   arrays, float32, little-endian, row by row; N counts bytes from where the rest begins

Nothing is unpacked and nothing is executed: an array is a window on the body that was received.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError

JSON, BINARY = "application/json", "application/x-sterna"
MAGIC = b"STERNA1\n"
HEAD = len(MAGIC) + 4
_DIMENSIONS = 2


class Malformed(InputError):  # noqa: N818  (an adjective says it better)
    """A body that cannot be read at all, whatever it was meant to say."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message in the binary format; its NumPy arrays, at any depth, become float32."""
    buffers: list[bytes] = []
    text = json.dumps(_packed(message, buffers), allow_nan=False).encode()
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *buffers])


def _packed(value: Any, buffers: list[bytes]) -> Any:
    if isinstance(value, np.ndarray):
        offset = sum(map(len, buffers))
        buffers.append(np.ascontiguousarray(value, "<f4").tobytes())
        return {"shape": list(value.shape), "offset": offset}
    if isinstance(value, Mapping):
        return {name: _packed(part, buffers) for name, part in value.items()}
    return value


def decode(body: bytes, kind: str) -> dict[str, Any]:
    """Read a message of a media type, `JSON` or `BINARY`; raises `Malformed`.

    Arrays of the binary format stay descriptions until `array` is asked for them; their bytes are
    under the key ``""``.
    """
    if kind == JSON:
        return _object(body)
    if kind != BINARY:
        raise Malformed(f"body: expected {JSON} or {BINARY}, found {kind}")
    if len(body) < HEAD or body[: len(MAGIC)] != MAGIC:
        raise Malformed(f"body: expected {MAGIC!r} and the length of a header at its beginning")
    (length,) = struct.unpack_from("<I", body, len(MAGIC))
    if length > len(body) - HEAD:
        raise Malformed(f"body: a header of {length} bytes in a body of {len(body)}; cut short?")
    message = _object(body[HEAD : HEAD + length])
    message[""] = memoryview(body)[HEAD + length :]
    return message


def array(message: Mapping[str, Any], value: Any, name: str) -> NDArray[np.float32]:
    """Return an array of a message: float32 of at most two dimensions, all of it finite.

    `value` is a list (of lists) of numbers, or in the binary format a shape and an offset.
    """
    if isinstance(value, dict) and "" in message:
        out = _window(message[""], value, name)
    elif isinstance(value, list):
        out = _from_lists(value, name)
    else:
        raise InputError(f"{name}: expected rows of numbers, found {type(value).__name__}")
    if not np.isfinite(out).all():
        raise InputError(f"{name}: found NaN, infinity or a number beyond float32")
    return out


def _window(buffer: memoryview, value: dict[str, Any], name: str) -> NDArray[np.float32]:
    shape, offset = value.get("shape"), value.get("offset")
    sound = isinstance(shape, list) and 1 <= len(shape) <= _DIMENSIONS
    if not sound or not all(_is_count(n) for n in [*(shape or []), offset]):
        raise InputError(f'{name}: expected {{"shape": [rows, columns], "offset": bytes}}')
    assert isinstance(shape, list) and isinstance(offset, int)
    count = math.prod(shape)
    if offset + 4 * count > len(buffer):
        raise InputError(
            f"{name}: {count} numbers from byte {offset} on reach beyond the {len(buffer)} bytes "
            "behind the header"
        )
    flat = np.frombuffer(buffer[offset : offset + 4 * count], "<f4")
    return flat.astype(np.float32, copy=False).reshape(shape)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _from_lists(value: list[Any], name: str) -> NDArray[np.float32]:
    try:
        found: NDArray[Any] = np.asarray(value)
    except (ValueError, OverflowError):
        raise InputError(f"{name}: its rows differ in length") from None
    if found.dtype.kind not in "iuf" or found.ndim > _DIMENSIONS:
        raise InputError(f"{name}: expected rows of numbers and nothing else")
    with np.errstate(over="ignore"):  # what overflows is refused as infinite
        return found.astype(np.float32)


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise Malformed(f"body: not valid JSON ({reason})") from None
    if not isinstance(value, dict):
        raise Malformed(f"body: expected a JSON object, found {type(value).__name__}")
    if "" in value:
        raise Malformed('body: a field has the name ""')
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
