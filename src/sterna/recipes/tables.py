"""All recipes by the names that the commands take."""

from __future__ import annotations

from sterna.recipes import actdistill, grpo, houses, pretraining, r2r, reverie

TRAINING = {
    **r2r.TRAINING,
    **reverie.TRAINING,
    **houses.TRAINING,
    **actdistill.TRAINING,
}
DISTILLING = {**r2r.DISTILLING, **reverie.DISTILLING, **houses.DISTILLING}
PRETRAINING = {**pretraining.PRETRAINING, **reverie.PRETRAINING, **houses.PRETRAINING}
STAGE1 = {**pretraining.STAGE1, **reverie.STAGE1, **houses.STAGE1}
CLOSED_LOOP = grpo.CLOSED_LOOP
