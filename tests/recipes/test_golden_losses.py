"""The toy recipes' first 20 steps give the losses that are stored, term by term."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden_losses import FILE, STEPS, Curves, curves, difference
from sterna.files import read_json

MODULES = ("language", "panorama", "local", "global")
TERMS = {
    "pretraining": set[str](),
    "stage1": {"embedding"} | {f"{m}_{kind}" for m in MODULES for kind in ("attention", "hidden")},
    "dagger": {"action"},
    "stage2": {"action", "text", "panorama", "fuse"},
}


@pytest.fixture(scope="module")
def wanted() -> Curves:
    stored: Curves = read_json(FILE)["losses"]
    return stored


def test_every_term_of_every_step_is_stored(wanted: Curves) -> None:
    for name, terms in TERMS.items():
        assert len(wanted[name]) == STEPS
        for step in wanted[name]:
            task = {"mlm", "sap"} & step.keys()
            assert step.keys() - task == terms | {"loss"}
            assert len(task) == (name in ("pretraining", "stage1"))
    for name in ("pretraining", "stage1"):
        assert {"mlm", "sap"} <= {term for step in wanted[name] for term in step}


def test_losses_are_those_of_old(wanted: Curves, toy_house: Path, tmp_path: Path) -> None:
    """To 1e-5; between kernels without and with AVX2 and AVX-512 they differ by 3e-6 at most."""
    for name, apart in difference(curves(toy_house, tmp_path), wanted).items():
        assert apart < 1e-5, name
