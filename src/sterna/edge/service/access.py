"""Who may ask: a token where one is set, else programs of this machine alone."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

from sterna.edge.service.limits import Refusal
from sterna.errors import InputError

TOKEN = 16  # characters of a token, at least


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine seen from itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """The rule that every request but `/health` must meet."""

    def __init__(self, host: str, token: str | None) -> None:
        """Raises `InputError` for listening beyond this machine without a token, or a short one."""
        if token is None and not is_loopback(host):
            raise InputError(
                f"--host {host}: a service that others can reach needs a token; give --token or "
                "set STERNA_TOKEN, or listen on 127.0.0.1"
            )
        if token is not None and len(token) < TOKEN:
            raise InputError(f"token: expected at least {TOKEN} characters, found {len(token)}")
        self._expected = None if token is None else f"Bearer {token}".encode()

    def check(self, request: web.Request) -> None:
        """Raise `Refusal` for a request without the token.

        Without a token the request must name this machine as its host, so that no page in a browser
        can send one in another name.
        """
        if self._expected is None:
            if not is_loopback(_host_of(request.headers.get("Host", ""))):
                raise Refusal(421, "other_host", "Host: expected localhost or 127.0.0.1")
            return
        found = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(found, self._expected):
            raise Refusal(401, "token", "expected the header Authorization: Bearer TOKEN")


def _host_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
