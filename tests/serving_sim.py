"""A simulator server in this process, on its own threads, for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sterna.envs import habitat_server as server


@contextmanager
def served(
    answers: server.Answers, *, token: str | None = None, port: int = 0
) -> Iterator[server.Server]:
    """Serve on loopback until the block ends."""
    http = server.Server(("127.0.0.1", port), answers, token)
    listen = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    desk = threading.Thread(target=http.desk.run)
    listen.start()
    desk.start()
    try:
        yield http
    finally:
        http.desk.ended.set()
        http.shutdown()
        http.server_close()
        listen.join()
        desk.join()


def url_of(http: server.Server) -> str:
    return f"http://127.0.0.1:{http.server_port}"
