"""The client of the simulator server: a world behind HTTP that looks like one in this process.

Every question is complete in itself, so it is asked again where a connection broke or the server
was started anew. Frames of reference are converted here and nowhere else: the wire is Habitat's.
"""

from __future__ import annotations

import http.client
import json
import math
import struct
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sterna.envs.continuous import cameras_of
from sterna.envs.habitat_server import DEFAULT_PORT, MAX_ANSWER, SERVICE, WIRE
from sterna.errors import InputError
from sterna.metrics.protocol import Protocol

Question = Mapping[str, Any]

URL = f"http://127.0.0.1:{DEFAULT_PORT}"
_DTYPES = ("|u1", "<f4")
_PAUSES = (0.0, 0.1, 0.3, 1.0, 2.0, 4.0)  # seconds before each new try of a broken connection
_BROKEN = (ConnectionError, http.client.HTTPException)


class Simulator:
    """One connection to a simulator server; not to be shared by threads.

    The settings that a `protocol` fixes (cameras, body) are agreed on with the first question, and
    again after the server was started anew. `InputError`, one line, for a server that is not
    there, is something else, speaks another version, or simulates something else.
    """

    def __init__(
        self,
        protocol: Protocol,
        url: str = URL,
        *,
        sensors: Sequence[str] = ("rgb", "depth"),
        token: str | None = None,
        timeout: float = 120.0,
        coding: str = "raw",
    ) -> None:
        """Name a server; nothing is sent yet.

        `timeout`: seconds for one answer, in which a scene may have to be loaded. `coding` of
        colour frames: raw, png (smaller, without loss) or jpeg (with loss).
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise InputError(f"simulator: expected an address such as {URL}, found {url!r}")
        if coding not in ("raw", "png", "jpeg"):
            raise InputError(f"simulator: coding must be raw, png or jpeg, found {coding!r}")
        self.protocol, self.url, self.coding = protocol, url.rstrip("/"), coding
        self.cameras = cameras_of(protocol)
        self.sensors = tuple(name for name in sensors if name != "pose")
        self._settings = settings_of(protocol, self.sensors)
        self._where = (parts.hostname, parts.port or 80)
        self._head = {"Content-Type": "application/json"}
        if token:
            self._head["Authorization"] = f"Bearer {token}"
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._agreed: str | None = None

    def about(self) -> dict[str, Any]:
        """What serves there; `InputError` if it is no simulator, or one of another version."""
        told = self._json(self._exchange("GET", "/about", None))
        if told.get("service") != SERVICE:
            raise self._error("this is no simulator server; check the address")
        if told.get("wire") != WIRE:
            raise self._error(
                f"it speaks version {str(told.get('wire'))[:20]}, this sterna speaks {WIRE}; copy "
                "the script anew (sterna habitat serve --write-script)"
            )
        return told

    def ask(self, scene: str, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """Have questions about one scene answered in one exchange; arrays come as arrays."""
        for fresh in (False, True):
            agreed = self._agreed or self._agree()
            body = {"wire": WIRE, "settings": agreed, "scene": scene, "ask": list(questions)}
            try:
                return self._answers(self._exchange("POST", "/ask", body), len(questions))
            except _SettingsError:  # the server was started anew
                self._agreed = None
                if fresh:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _agree(self) -> str:
        self.about()
        body = {"wire": WIRE, "settings": self._settings}
        told = self._json(self._exchange("POST", "/settings", body))
        self._agreed = str(told.get("settings_id"))
        return self._agreed

    def _exchange(self, method: str, path: str, body: Any) -> bytes:
        """Send a request until it is answered; connections that break are opened again."""
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        for pause in _PAUSES:
            time.sleep(pause)
            try:
                return self._try(method, path, content)
            except TimeoutError:
                self.close()
                raise self._error(
                    f"no answer within {self._timeout:g} s; is it loading a large scene? give more "
                    "time (--timeout)"
                ) from None
            except _BROKEN as error:
                self.close()
                reason = str(error) or type(error).__name__
            except OSError as error:
                self.close()
                reason = str(error)
        raise self._error(f"not there ({reason}); start it (sterna habitat serve tells how)")

    def _try(self, method: str, path: str, content: bytes | None) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._where, timeout=self._timeout)
        self._connection.request(method, path, content, self._head)
        response = self._connection.getresponse()
        raw = response.read(MAX_ANSWER + 2**20)
        if response.status == 200:
            return raw
        return self._refused(raw)

    def _refused(self, raw: bytes) -> bytes:
        try:
            told = json.loads(raw)
            kind, text = str(told["kind"]), str(told["error"])[:400]
        except (ValueError, TypeError, KeyError):
            raise self._error("this is no simulator server; check the address") from None
        if kind == "settings":
            raise _SettingsError(f"simulator at {self.url}: {text}")
        if kind == "ending":
            raise ConnectionError(text)
        if kind == "fault":
            text = f"it failed ({text}); its own output says more"
        raise self._error(text)

    def _error(self, text: str) -> InputError:
        return InputError(f"simulator at {self.url}: {text}")

    def _json(self, raw: bytes) -> dict[str, Any]:
        try:
            told = json.loads(raw)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._error("this is no simulator server; check the address")
        return told

    def _answers(self, raw: bytes, count: int) -> list[dict[str, Any]]:
        try:
            (length,) = struct.unpack_from("<I", raw)
            answers = json.loads(raw[4 : 4 + length])["answers"]
            blobs = memoryview(raw)[4 + length :]
            found = [{k: _decoded(v, blobs) for k, v in one.items()} for one in answers]
        except (ValueError, TypeError, KeyError, AttributeError, struct.error, OSError) as error:
            raise self._error(f"an answer that cannot be read ({error})") from None
        if len(found) != count:
            raise self._error(f"{len(found)} answers to {count} questions")
        return found


class _SettingsError(InputError):
    """The server does not know the settings that were agreed on."""


def settings_of(protocol: Protocol, sensors: Sequence[str]) -> dict[str, Any]:
    """Return what a server must simulate for a protocol: cameras and body."""
    cameras = cameras_of(protocol)
    settings: dict[str, Any] = {"sensors": list(sensors)}
    for name, kind in (("rgb", "camera"), ("depth", "depth")):
        for part in ("width", "height", "hfov"):
            settings[f"{kind}_{part}"] = getattr(cameras[name], part)
    for part in ("agent_radius", "agent_height"):
        value = getattr(protocol, part)
        if value is None:
            raise InputError(f"protocol {protocol.name}: no {part}; a simulator needs it")
        settings[part] = value
    return settings


def _decoded(value: Any, blobs: memoryview) -> Any:
    """Turn the parts of an answer into arrays; all else stays as it is."""
    if isinstance(value, dict) and "coding" in value:
        return _array(value, blobs)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.stack([_array(item, blobs) for item in value])
    return value


def _array(told: Mapping[str, Any], blobs: memoryview) -> NDArray[Any]:
    at, size, shape = told["at"], told["bytes"], tuple(told["shape"])
    if not all(type(n) is int and n >= 0 for n in (at, size, *shape)) or at + size > len(blobs):
        raise ValueError("an array lies outside of its answer")
    blob = blobs[at : at + size]
    if told["coding"] != "raw":
        picture = np.asarray(Image.open(BytesIO(blob), formats=("PNG", "JPEG")))
        if picture.shape != shape or picture.dtype != np.uint8:
            raise ValueError("a picture is of another size than told")
        return picture
    if told["dtype"] not in _DTYPES:
        raise ValueError("an array of an unknown type")
    dtype = np.dtype(told["dtype"])
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError("an array is of another size than told")
    return np.frombuffer(blob, dtype).reshape(shape)
