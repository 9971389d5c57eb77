"""Names of files in archives: only those that mean the same file on every system are taken."""

from __future__ import annotations

import re

from sterna.errors import InputError

_ODD = re.compile(r'[^ -~]|[\\:*?"<>|]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?$", re.IGNORECASE)
_LONGEST_PART, _LONGEST, _DEEPEST = 200, 1000, 30


def safe_parts(name: str) -> tuple[str, ...]:
    """Split the name of an archive's member; `InputError` for one that is not plainly below it.

    Refused: absolute paths, ``..``, empty names, characters other than printable ASCII or with a
    meaning to some system, names of devices, parts that begin or end with a space or end with a
    dot, and names that are too long or too deep. A leading ``./`` and a final ``/`` are ignored.
    """
    plain = name.removesuffix("/")
    while plain.startswith("./"):
        plain = plain[2:]
    parts = tuple(plain.split("/"))
    if plain in ("", "."):
        return ()
    if reason := _reason(plain, parts):
        raise InputError(f"it holds {name[:80]!a}: {reason}")
    return parts


def told(error: object) -> str:
    """Return what an error says as one line of printable text, or its kind if it says nothing."""
    line = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _reason(plain: str, parts: tuple[str, ...]) -> str:
    """Say why a name is refused, "" if it is not."""
    rules = (
        (plain.startswith("/"), "an absolute path"),
        (".." in parts, "a path that climbs out with .."),
        ("" in parts or "." in parts, "an empty part in the path"),
        (_ODD.search(plain) is not None, "characters that are not plain"),
        (len(plain) > _LONGEST or len(parts) > _DEEPEST, "a path too long or too deep"),
        (any(len(part) > _LONGEST_PART for part in parts), "a name too long"),
        (any(_DEVICE.match(part) for part in parts), "the name of a device"),
        (any(part != part.strip(" ") or part.endswith(".") for part in parts), "a blurred ending"),
    )
    return next((why for broken, why in rules if broken), "")


class Names:
    """What an archive holds so far: no name twice, not even in other letters, no file as folder."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, bool]] = {}

    def add(self, parts: tuple[str, ...], is_folder: bool) -> None:
        """Note a member; `InputError` if another one is in its way."""
        for depth in range(1, len(parts)):
            self._note(parts[:depth], True)
        self._note(parts, is_folder)

    def _note(self, parts: tuple[str, ...], is_folder: bool) -> None:
        path = "/".join(parts)
        other = self._seen.get(path.casefold())
        if other is None:
            self._seen[path.casefold()] = (path, is_folder)
        elif other[0] != path:
            raise InputError(f"it holds {path!r} and {other[0]!r}, one name to many systems")
        elif other[1] != is_folder:
            raise InputError(f"it holds {path!r} as a file and as a folder")
        elif not is_folder:
            raise InputError(f"it holds {path!r} twice")
