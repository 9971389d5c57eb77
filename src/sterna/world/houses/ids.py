"""Names of houses and of their viewpoints in files: the same on every machine, never twice."""

from __future__ import annotations

import hashlib

from sterna.errors import InputError


def scan_of(seed: int) -> str:
    """Return the scan id of a house: "house-000017" for seed 17."""
    if seed < 0:
        raise InputError(f"a house's seed is a whole number from 0 up, found {seed}")
    return f"house-{seed:06d}"


def viewpoint_of(seed: int, number: int) -> str:
    """Return the id of a house's viewpoint by number: 32 hexadecimal digits, as in Matterport."""
    return hashlib.sha256(f"{scan_of(seed)}/{number}".encode()).hexdigest()[:32]
