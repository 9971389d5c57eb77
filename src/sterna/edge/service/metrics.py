"""What a service counts, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path

KIND = "text/plain; version=0.0.4"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the latency histogram, seconds."""


class Metrics:
    """Requests by route and status, their latency by route, what became of sessions.

    Used from the event loop alone, so nothing is locked.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.sessions: Counter[str] = Counter(started=0, ended=0, expired=0)
        self.connections_refused = 0
        self._latency: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def saw(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered after so many seconds."""
        self.requests[method, route, status] += 1
        counts = self._latency.setdefault(route, [0] * (len(BUCKETS) + 1))
        counts[next((i for i, end in enumerate(BUCKETS) if seconds <= end), len(BUCKETS))] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return everything as text; `gauges` are name -> (help, value) of the moment."""
        return "\n".join([*self._counters(), *self._histogram(), *_gauges(gauges)]) + "\n"

    def _counters(self) -> Iterator[str]:
        yield "# HELP sterna_requests_total Requests answered."
        yield "# TYPE sterna_requests_total counter"
        for (method, route, status), count in sorted(self.requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            yield f"sterna_requests_total{{{labels}}} {count}"
        yield "# HELP sterna_sessions_total Sessions by what happened to them."
        yield "# TYPE sterna_sessions_total counter"
        for event, count in sorted(self.sessions.items()):
            yield f'sterna_sessions_total{{event="{event}"}} {count}'
        yield "# HELP sterna_connections_refused_total Connections over the limit."
        yield "# TYPE sterna_connections_refused_total counter"
        yield f"sterna_connections_refused_total {self.connections_refused}"

    def _histogram(self) -> Iterator[str]:
        name = "sterna_request_seconds"
        yield f"# HELP {name} From a request's head to its answer."
        yield f"# TYPE {name} histogram"
        for route, counts in sorted(self._latency.items()):
            for end, total in zip([*map(str, BUCKETS), "+Inf"], accumulate(counts), strict=True):
                yield f'{name}_bucket{{route="{route}",le="{end}"}} {total}'
            yield f'{name}_sum{{route="{route}"}} {self._seconds[route]}'
            yield f'{name}_count{{route="{route}"}} {sum(counts)}'


def _gauges(gauges: Mapping[str, tuple[str, float]]) -> Iterator[str]:
    for name, (about, value) in gauges.items():
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} gauge"
        yield f"{name} {value}"


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return None
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
