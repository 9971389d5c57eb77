"""What a service takes on, and the answer to what goes beyond."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a service. Memory is about `sessions` times the text of an instruction (1 MB for a
    `minivln` and 44 words), `buffered_bytes`, and 24 bytes times `map_nodes` squared a session.
    """

    sessions: int = 1024
    """Sessions open at once."""
    idle_seconds: float = 600.0
    """A session that is silent for so long is closed."""
    connections: int = 2048
    """TCP connections open at once."""
    keepalive_seconds: float = 75.0
    """A connection without a whole request for so long is closed."""
    body_bytes: int = 4 * 2**20
    """Size of one request's body."""
    buffered_bytes: int = 256 * 2**20
    """Bodies of all requests together."""
    read_seconds: float = 10.0
    """Time in which a body must arrive."""
    answer_seconds: float = 30.0
    """Time in which an answer must be found, waiting included."""
    requests: int = 1024
    """Requests that wait for inference or are in it."""
    session_requests: int = 4
    """Of these, requests of one session."""
    map_nodes: int = 256
    """Places on the map of one session."""
    shutdown_seconds: float = 10.0
    """Time that requests under way have when the service is told to end."""

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        for field in fields(self):
            if not 0 < getattr(self, field.name) < float("inf"):
                raise InputError(f"{field.name}: expected a finite number above 0")


class Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """A request that is answered with an error: HTTP status, a short code, one line that helps."""

    def __init__(self, status: int, code: str, message: str, **more: object) -> None:
        """`more` are further fields of the answer's ``error``."""
        super().__init__(message)
        self.status, self.code, self.more = status, code, more

    def body(self) -> dict[str, object]:
        """Return the JSON of the answer."""
        return {"error": {"code": self.code, "message": str(self), **self.more}}
