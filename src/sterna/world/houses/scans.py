"""Names of houses and their viewpoints in files: ``house-000017`` is the house of seed 17."""

from __future__ import annotations

import hashlib
import re

from sterna.errors import InputError

_NAME = re.compile(r"house-([0-9]{6,18})")


def scan_of(seed: int) -> str:
    """Return the scan id of a house's seed (0 or more)."""
    if seed < 0:
        raise InputError(f"a house's seed is a whole number from 0 up, found {seed}")
    return f"house-{seed:06d}"


def seed_of(scan: str) -> int | None:
    """Return the seed of the house that a scan id names; None for any other building."""
    found = _NAME.fullmatch(scan)
    if found is None or scan_of(int(found[1])) != scan:
        return None
    return int(found[1])


def viewpoint_of(seed: int, number: int) -> str:
    """Return the id of a house's viewpoint: 32 hexadecimal digits, as Matterport's; never twice."""
    return hashlib.sha256(f"{scan_of(seed)}/{number}".encode()).hexdigest()[:32]
