"""What the field's data sets hold when complete, who offers them, how big, under which terms.

The terms are the publishers' own words or files as found, nothing inferred; where a repository
states none, that is said. This library ships none of these data.
"""

from __future__ import annotations

from dataclasses import dataclass

_MP3D = "Matterport3D Terms of Use (cover data derived from it, says the simulator's README)"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set: its name, where its publisher offers it, rough size, terms."""

    name: str
    where: str
    size: str
    terms: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of paths and instructions of one split, counted in the publisher's files.

    R4R's train and val_unseen are those derived from today's R2R; the paper, on an older revision,
    counts 233,613 and 45,162 instructions.
    """

    paths: int
    instructions: int


SOURCES = {
    "graphs": Source(
        name="Matterport3D navigation graphs",
        where="https://github.com/peteanderson80/Matterport3DSimulator (folder connectivity)",
        size="24 MB",
        terms=_MP3D,
    ),
    "r2r": Source(
        name="Room-to-Room (R2R)",
        where="https://github.com/peteanderson80/Matterport3DSimulator (tasks/R2R/data)",
        size="6 MB",
        terms=_MP3D,
    ),
    "r4r": Source(
        name="Room-for-Room (R4R)",
        where="derive it from R2R: sterna.data.r4r; or "
        "https://github.com/google-research/google-research/tree/master/r4r",
        size="0.4 MB val_seen, about 100 MB train",
        terms=_MP3D,
    ),
    "fgr2r": Source(
        name="Fine-Grained R2R",
        where="https://github.com/YicongHong/Fine-Grained-R2R",
        size="15 MB",
        terms="MIT for the code; 'copyright resides with the authors of the paper' (README); "
        + _MP3D,
    ),
    "reverie": Source(
        name="REVERIE (first release)",
        where="https://github.com/YuankaiQi/REVERIE (tasks/REVERIE/data)",
        size="40 MB with boxes",
        terms="no licence stated; " + _MP3D,
    ),
    "reverie-v2": Source(
        name="REVERIE (second release)",
        where="https://github.com/YuankaiQi/REVERIE (data_v2)",
        size="7 MB",
        terms="no licence stated; " + _MP3D,
    ),
    "textobs": Source(
        name="Text observations of NavGPT",
        where="https://github.com/GengzeZhou/NavGPT (README links the archive), also "
        "https://huggingface.co/datasets/ZGZzz/NavGPT-R2R",
        size="18 MB of texts (the archive with images 50 GB)",
        terms="MIT (NavGPT); " + _MP3D,
    ),
    "features": Source(
        name="View features",
        where="ViT-B/16: https://github.com/cshizhe/VLN-DUET (README links the Dropbox folder); "
        "CLIP B/16 and H/14: https://huggingface.co/datasets/OpenGVLab/ScaleVLN (features.zip)",
        size="1.2 to 2.7 GB a file",
        terms="no licence in either repository; " + _MP3D,
    ),
    "vlnce": Source(
        name="R2R in continuous environments (VLN-CE)",
        where="https://github.com/jacobkrantz/VLN-CE (R2R_VLNCE_v1-3_preprocessed)",
        size="36 MB without the augmentation split, 350 MB with it",
        terms="CC BY-NC-SA 3.0 US (IVLN-CE README); " + _MP3D,
    ),
    "rxr": Source(
        name="Room-Across-Room (RxR)",
        where="https://github.com/google-research-datasets/RxR",
        size="100 MB of guide annotations",
        terms="CC-BY for the annotations; " + _MP3D,
    ),
    "rxr-ce": Source(
        name="RxR in continuous environments (RxR-CE)",
        where="https://github.com/jacobkrantz/VLN-CE (RxR_VLNCE_v0)",
        size="size not stated",
        terms="CC BY-NC-SA 3.0 US (IVLN-CE README); " + _MP3D,
    ),
    "soon": Source(
        name="SOON",
        where="https://github.com/ZhuFengdaaa/SOON, https://eval.ai/web/challenges/"
        "challenge-page/1275; with word ids and pseudo labels: https://github.com/cshizhe/VLN-DUET",
        size="size not stated",
        terms="no licence file in the repository; " + _MP3D,
    ),
    "ndh": Source(
        name="Navigation from Dialog History (NDH, of CVDN)",
        where="https://github.com/mmurray/cvdn (tasks/NDH/data/download.sh)",
        size="2.6 MB val_unseen, the others not stated",
        terms="no licence file in the repository; " + _MP3D,
    ),
    "meshes": Source(
        name="Matterport3D scans (only for rendering; nothing here needs them)",
        where="https://niessner.github.io/Matterport/ (signed agreement by e-mail)",
        size="1.3 TB in full, 15 GB for Habitat",
        terms="Matterport3D Terms of Use",
    ),
}

PUBLISHED_GRAPHS = {"scans": 90, "viewpoints": 10567, "edges": 21468, "connected": 10559}

PUBLISHED = {
    "r2r": {
        "train": Counts(paths=4675, instructions=14039),
        "val_seen": Counts(paths=340, instructions=1021),
        "val_unseen": Counts(paths=783, instructions=2349),
        "test": Counts(paths=1391, instructions=4173),
    },
    "r4r": {
        "train": Counts(paths=25921, instructions=233532),
        "val_seen": Counts(paths=115, instructions=1035),
        "val_unseen": Counts(paths=5026, instructions=45234),
    },
    "fgr2r": {
        "train": Counts(paths=4675, instructions=14039),
        "val_seen": Counts(paths=340, instructions=1021),
        "val_unseen": Counts(paths=783, instructions=2349),
        "test": Counts(paths=1391, instructions=4173),
    },
    "reverie": {
        "train": Counts(paths=4150, instructions=10466),
        "val_seen": Counts(paths=515, instructions=1423),
        "val_unseen": Counts(paths=1328, instructions=3521),
        "test": Counts(paths=2304, instructions=6292),
    },
    "reverie-v2": {
        "train": Counts(paths=4071, instructions=10290),
        "val_seen": Counts(paths=501, instructions=1384),
        "val_unseen": Counts(paths=1292, instructions=3433),
        "test": Counts(paths=2244, instructions=6144),
    },
}
PUBLISHED_BOXES = {"viewpoints": 10567, "objects": 38293, "view boxes": 210198}
PUBLISHED_VLNCE = {"train": 10819, "val_seen": 778, "val_unseen": 1839, "test": 3408}
