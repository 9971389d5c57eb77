"""All recipes by the names that the commands take."""

from __future__ import annotations

from sterna.recipes import pretraining, r2r, reverie

TRAINING = {**r2r.TRAINING, **reverie.TRAINING}
DISTILLING = {**r2r.DISTILLING, **reverie.DISTILLING}
PRETRAINING = {**pretraining.PRETRAINING, **reverie.PRETRAINING}
STAGE1 = {**pretraining.STAGE1, **reverie.STAGE1}
