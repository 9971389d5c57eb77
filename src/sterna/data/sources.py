"""What the field's data sets hold when complete, who offers them, how big, under which terms.

The one catalogue: `sterna data get` fetches from it, `sterna data check` compares with it. The
terms are the publishers' own words or files as found, nothing inferred; where a repository states
none, that is said. Sizes and checksums are those of files that were looked at; None where no file
was. This library ships none of these data.
"""

from __future__ import annotations

from dataclasses import dataclass

from sterna.data.remote import Remote, Source, Tree, checksums, listed

_MP3D = "Matterport3D Terms of Use (cover data derived from it, says the simulator's README)"
_NO_LICENCE = "no licence stated; " + _MP3D
_RAW = "https://raw.githubusercontent.com/"
_SIMULATOR = _RAW + "peteanderson80/Matterport3DSimulator/master/"
_PTA = _RAW + "aimagelab/perceive-transform-and-act/8e688ce41942c2bd5e8790d6520be06fdb89c4ca/"
_FGR2R = _RAW + "YicongHong/Fine-Grained-R2R/7800fd3016637254939dcdf07aca8da837e36869/data/"
_REVERIE = "46da658210babe05e13bf133f60bae2b4cf7b3db"
_REVERIE_V2 = "42b130d42338523d4e0936cc207fe06118bc7085"
_OBJPOS = "58a17aaf3e07ee6a4ef07f33b1c4715ab3620ffa"
_NAVNUANCES = _RAW + "zehao-wang/navnuances/d388a77267f51f83bdd2ac160b9f563c9c38b223/"
_CAPTIONS = _NAVNUANCES + "baselines/navgpt4v/data/R2R/"
_CE_COPY = _RAW + (
    "sohamtiwari3120/Discrete-Continuous-VLN/0131ad8fd0854385cfab83286384e63a96b001f0/data/datasets/"
)
_VLNCE = "R2R_VLNCE_v1-3_preprocessed"
_RXR = "https://storage.googleapis.com/rxr-data/"
_SCALEVLN = "https://huggingface.co/datasets/OpenGVLab/ScaleVLN/resolve/main/"
_DUET_DROPBOX = "https://www.dropbox.com/sh/u3lhng7t2gq36td/AABAIdFnJxhhCg2ItpAhMtUBa?dl=0"
_SPLITS = ("train", "val_seen", "val_unseen", "test")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of paths and instructions of one split, counted in the publisher's files.

    R4R's train and val_unseen are those derived from today's R2R; the paper, on an older revision,
    counts 233,613 and 45,162 instructions.
    """

    paths: int
    instructions: int


def _listed_under(folder: str, base: str) -> tuple[Remote, ...]:
    """All files of a folder that `checksums` lists, offered under the same names below `base`."""
    start = f"{folder}/"
    paths = [path.removeprefix(start) for path in checksums() if path.startswith(start)]
    return tuple(listed(folder, path, base + path) for path in sorted(paths))


def _dropbox(split: str, key: str) -> Remote:
    """One split of R2R: from its authors' Dropbox, or the same file in a public repository."""
    name = f"R2R_{split}.json"
    publisher = f"https://www.dropbox.com/s/{key}/{name}?dl=1"
    return listed("r2r", name, publisher, f"{_PTA}tasks/R2R/data/{name}")


def _reverie(folder: str, commit: str, below: str, name: str) -> Remote:
    url = f"{_RAW}YuankaiQi/REVERIE/{commit}/tasks/REVERIE/{below}/{name}"
    return listed(folder, name, url)


def _rxr(name: str) -> Remote:
    """One file of RxR in its public bucket; its README gives sizes in megabytes only."""
    return Remote(path=f"rxr_{name}.jsonl.gz", urls=(f"{_RXR}rxr_{name}.jsonl.gz",))


def _bring(what: str, page: str) -> str:
    return f"open {page} in a browser, save {what}, then: --from FILE_OR_FOLDER"


SOURCES = {
    "connectivity": Source(
        name="Matterport3D navigation graphs",
        where="https://github.com/peteanderson80/Matterport3DSimulator (folder connectivity)",
        size="24 MB",
        terms=_MP3D,
        needed_for="everything on Matterport3D graphs: R2R, R4R, RxR, REVERIE, SOON, NDH",
        folder="mp3d/connectivity",
        remotes=_listed_under("mp3d/connectivity", _SIMULATOR + "connectivity/"),
        checked_as="graphs",
    ),
    "r2r": Source(
        name="Room-to-Room (R2R)",
        where="https://github.com/peteanderson80/Matterport3DSimulator (tasks/R2R/data)",
        size="6 MB",
        terms=_MP3D,
        needed_for="sterna train, distil, eval on R2R; R4R is derived from it",
        folder="r2r",
        remotes=(
            _dropbox("train", "hh5qec8o5urcztn"),
            _dropbox("val_seen", "8ye4gqce7v8yzdm"),
            _dropbox("val_unseen", "p6hlckr70a07wka"),
            _dropbox("test", "w4pnbwqamwzdwd1"),
        ),
    ),
    "r4r": Source(
        name="Room-for-Room (R4R)",
        where="derive it from R2R: sterna.data.r4r; or "
        "https://github.com/google-research/google-research/tree/master/r4r",
        size="0.4 MB val_seen, about 100 MB train",
        terms=_MP3D,
        needed_for="long paths: nDTW, SDTW and CLS on R4R",
        folder="r4r",
        remotes=(listed("r4r", "R4R_val_seen.json", f"{_PTA}tasks/R2R/data/R4R_val_seen.json"),),
        note="val_seen only; the other splits are derived: sterna data r4r",
    ),
    "fgr2r": Source(
        name="Fine-Grained R2R",
        where="https://github.com/YicongHong/Fine-Grained-R2R",
        size="15 MB",
        terms="MIT for the code; 'copyright resides with the authors of the paper' (README); "
        + _MP3D,
        needed_for="sub-instructions and the part of the path each belongs to",
        folder="fgr2r",
        remotes=tuple(
            listed("fgr2r", f"FGR2R_{split}.json", f"{_FGR2R}FGR2R_{split}.json")
            for split in _SPLITS
        ),
    ),
    "rxr": Source(
        name="Room-Across-Room (RxR)",
        where="https://github.com/google-research-datasets/RxR",
        size="100 MB of guide annotations, 16 MB of follower annotations",
        terms="CC-BY for the annotations; " + _MP3D,
        needed_for="RxR: English, Hindi and Telugu instructions, guides and followers",
        folder="rxr",
        remotes=tuple(
            _rxr(name)
            for name in (
                *("train_guide", "val_seen_guide", "val_unseen_guide"),
                *("test_standard_public_guide", "test_challenge_public_guide"),
                *("train_follower", "val_seen_follower", "val_unseen_follower"),
            )
        ),
        note="pose traces (19 GB) and text features (143 GB) stay where they are: see the README",
    ),
    "reverie": Source(
        name="REVERIE (first release)",
        where="https://github.com/YuankaiQi/REVERIE (tasks/REVERIE/data)",
        size="40 MB with boxes",
        terms=_NO_LICENCE,
        needed_for="sterna train, distil, eval on REVERIE; the boxes say where objects are seen",
        folder="reverie/v1",
        remotes=(
            *(
                _reverie("reverie/v1", _REVERIE, "data", f"REVERIE_{split}.json")
                for split in _SPLITS
            ),
            Remote(
                path="BBox",
                urls=(f"https://github.com/YuankaiQi/REVERIE/archive/{_REVERIE}.zip",),
                inside="tasks/REVERIE/data/BBox",
            ),
        ),
        trees=(
            Tree(
                folder="BBox",
                files=10567,
                sha256="68582a52f252b55890b25ec3adad616a386c07a3cb9d857bc6ff5e25adc3cc22",
            ),
        ),
        note="the archive is that of the whole repository; only the boxes are taken from it",
    ),
    "reverie-v2": Source(
        name="REVERIE (second release)",
        where="https://github.com/YuankaiQi/REVERIE (data_v2)",
        size="7 MB",
        terms=_NO_LICENCE,
        needed_for="--data.task reverie-v2",
        folder="reverie/v2",
        remotes=(
            *(
                _reverie("reverie/v2", _REVERIE_V2, "data_v2", f"REVERIE_{split}.json")
                for split in _SPLITS
            ),
            _reverie("reverie/v2", _OBJPOS, "data_v2", "objpos.json"),
        ),
        note="its boxes are on Google Drive ('download BBoxes v2.txt' in that folder)",
    ),
    "soon": Source(
        name="SOON (FAO annotations)",
        where="https://scenario-oriented-object-navigation.github.io, entries: "
        "https://eval.ai/web/challenges/challenge-page/1275",
        size="not known",
        terms="none stated in its repository (github.com/ZhuFengdaaa/SOON); " + _MP3D,
        needed_for="SOON: objects described by their surroundings",
        folder="soon",
        remotes=(Remote(path="", inside=""),),
        holds=("*.json*",),
        by_hand=_bring(
            "the annotation files", "https://scenario-oriented-object-navigation.github.io"
        ),
        note="processed copies are in DUET's Dropbox folder too (github.com/cshizhe/VLN-DUET)",
    ),
    "ndh": Source(
        name="Navigation from Dialog History (NDH)",
        where="https://github.com/mmurray/cvdn (tasks/NDH/data)",
        size="not known",
        terms="none stated in its README; " + _MP3D,
        needed_for="NDH: goal progress",
        folder="ndh",
        remotes=(
            *(
                Remote(
                    path=f"{split}.json",
                    urls=(f"https://cvdn.dev/dataset/NDH/train_val/{split}.json",),
                )
                for split in _SPLITS[:3]
            ),
            Remote(
                path="test.json",
                urls=("https://cvdn.dev/dataset/NDH/test_cleaned/test_cleaned.json",),
            ),
        ),
    ),
    "cvdn": Source(
        name="Vision-and-Dialog Navigation (CVDN)",
        where="https://github.com/mmurray/cvdn (tasks/CVDN/data)",
        size="not known",
        terms="none stated in its README; " + _MP3D,
        needed_for="the whole dialogs that NDH is cut from",
        folder="cvdn",
        remotes=tuple(
            Remote(
                path=f"{split}.json",
                urls=(f"https://cvdn.dev/dataset/CVDN/train_val/{split}.json",),
            )
            for split in _SPLITS[:3]
        ),
    ),
    "textobs": Source(
        name="Text observations of NavGPT",
        where="https://github.com/GengzeZhou/NavGPT (README links the archive), also "
        "https://huggingface.co/datasets/ZGZzz/NavGPT-R2R",
        size="18 MB of texts (the archive with images 50 GB)",
        terms="MIT (NavGPT); " + _MP3D,
        needed_for="recipes text-*: sterna data embed turns captions into view features",
        folder="textobs",
        remotes=_listed_under("textobs", _CAPTIONS),
        note="file by file from github.com/zehao-wang/navnuances, which carries the same texts",
    ),
    "features-duet": Source(
        name="View features of DUET and HAMT (ViT-B/16, ImageNet)",
        where="https://github.com/cshizhe/VLN-DUET (README links the Dropbox folder)",
        size="1.2 to 2.7 GB a file",
        terms="no licence in the repository; " + _MP3D,
        needed_for="recipes duet-r2r, duet-reverie",
        folder="features/duet",
        remotes=(Remote(path="pth_vit_base_patch16_224_imagenet.hdf5"),),
        by_hand=_bring("R2R/features/pth_vit_base_patch16_224_imagenet.hdf5", _DUET_DROPBOX),
        checked_as="features",
    ),
    "objects-reverie": Source(
        name="Object features of REVERIE (ViT-B/16, ImageNet)",
        where="https://github.com/cshizhe/VLN-DUET (README links the Dropbox folder)",
        size="not known",
        terms="no licence in the repository; " + _MP3D,
        needed_for="recipe duet-reverie",
        folder="features/objects-reverie",
        remotes=(Remote(path="obj.avg.top3.min80_vit_base_patch16_224_imagenet.hdf5"),),
        by_hand=_bring(
            "REVERIE/features/obj.avg.top3.min80_vit_base_patch16_224_imagenet.hdf5",
            _DUET_DROPBOX,
        ),
        checked_as="features",
    ),
    "features-scalevln": Source(
        name="View features of ScaleVLN (CLIP B/16 and H/14, EnvEdit)",
        where="https://huggingface.co/datasets/OpenGVLab/ScaleVLN (features.zip)",
        size="not known (1.2 to 2.7 GB a file)",
        terms="no licence in the repository; " + _MP3D,
        needed_for="recipes scalevln-r2r, minivln-r2r-scalevln",
        folder="features/scalevln",
        remotes=(Remote(path="", urls=(_SCALEVLN + "features.zip",), inside="features"),),
        holds=("*.hdf5",),
        checked_as="features",
    ),
    "features-autovln": Source(
        name="View and object features of AutoVLN (timm ViT-B/16)",
        where="https://github.com/cshizhe/HM3DAutoVLN (README links the Dropbox folder)",
        size="not known",
        terms="none stated in its README; " + _MP3D,
        needed_for="recipe minivln-reverie-autovln",
        folder="features/autovln",
        remotes=(Remote(path="", inside=""),),
        holds=("*",),
        by_hand=_bring(
            "the features of REVERIE as an archive",
            "https://www.dropbox.com/sh/789nuoo93bpsk48/AAAVzZJrrSu7IpRyQtOGX2sca?dl=0",
        ),
        note="published as LMDB; the recipe reads view_timm_imagenet_vitb16 and "
        "obj_gtmax_timm_imagenet_vitb16 as HDF5",
        checked_as="features",
    ),
    "augment-prevalent": Source(
        name="PREVALENT: generated instructions for R2R's houses",
        where="https://github.com/YicongHong/Recurrent-VLN-BERT (README)",
        size="1.5 GB",
        terms="none stated for the file; " + _MP3D,
        needed_for="augmented training on R2R",
        folder="augment/prevalent",
        remotes=(
            Remote(
                path="prevalent_aug.json",
                urls=("https://zenodo.org/record/4437864/files/prevalent_aug.json?download=1",),
            ),
        ),
    ),
    "augment-scalevln": Source(
        name="ScaleVLN: generated data in HM3D and Gibson, with their graphs",
        where="https://huggingface.co/datasets/OpenGVLab/ScaleVLN (r2r_preprocess_data.zip)",
        size="not known",
        terms="no licence in the repository; " + _MP3D,
        needed_for="ScaleVLN's augmented pre-training and fine-tuning on R2R",
        folder="augment/scalevln",
        remotes=(Remote(path="", urls=(_SCALEVLN + "r2r_preprocess_data.zip",), inside=""),),
        holds=("*annotations/*", "*connectivity/*_connectivity.json"),
    ),
    "augment-scalevln-reverie": Source(
        name="ScaleVLN: data for REVERIE",
        where="https://huggingface.co/datasets/OpenGVLab/ScaleVLN (rvr_data.zip)",
        size="not known",
        terms="no licence in the repository; " + _MP3D,
        needed_for="ScaleVLN's training on REVERIE",
        folder="augment/scalevln-reverie",
        remotes=(Remote(path="", urls=(_SCALEVLN + "rvr_data.zip",), inside=""),),
        holds=("*",),
    ),
    "augment-autovln": Source(
        name="HM3D-AutoVLN: generated data in 900 houses of HM3D",
        where="https://github.com/cshizhe/HM3DAutoVLN (README links the Dropbox folder)",
        size="not known",
        terms="none stated in its README; HM3D has terms of its own",
        needed_for="AutoVLN's training on REVERIE and SOON",
        folder="augment/autovln",
        remotes=(Remote(path="", inside=""),),
        holds=("*",),
        by_hand=_bring(
            "the folder as an archive",
            "https://www.dropbox.com/sh/6it95wkn20mnyou/AAABNp0scXpflBsq00JFg5QNa?dl=0",
        ),
    ),
    "vlnce": Source(
        name="R2R in continuous environments (VLN-CE)",
        where="https://github.com/jacobkrantz/VLN-CE (R2R_VLNCE_v1-3_preprocessed)",
        size="36 MB without the augmentation split, 350 MB with it",
        terms="CC BY-NC-SA 3.0 US (IVLN-CE README); " + _MP3D,
        needed_for="VLN-CE: sterna eval --env, ego make, the Habitat client",
        folder=f"vlnce/{_VLNCE}",
        remotes=_listed_under(f"vlnce/{_VLNCE}", f"{_CE_COPY}{_VLNCE}/"),
        note="file by file from a public copy, without train_gt and the envdrop split; those are "
        "in the publisher's archive on Google Drive (README)",
    ),
    "rxr-ce": Source(
        name="RxR in continuous environments (RxR-CE)",
        where="https://github.com/jacobkrantz/VLN-CE (RxR_VLNCE_v0.zip)",
        size="not known",
        terms="CC BY-NC-SA 3.0 US (VLN-CE README); " + _MP3D,
        needed_for="RxR-CE and the RxR-Habitat challenge",
        folder="vlnce/RxR_VLNCE_v0",
        remotes=(
            Remote(
                path="",
                urls=("https://storage.googleapis.com/rxr-habitat/RxR_VLNCE_v0.zip",),
                inside="RxR_VLNCE_v0",
            ),
        ),
        holds=("train/train_guide.json.gz", "val_unseen/val_unseen_guide.json.gz"),
    ),
    "meshes": Source(
        name="Matterport3D scans (only for rendering; nothing here needs them)",
        where="https://niessner.github.io/Matterport/ (signed agreement by e-mail)",
        size="1.3 TB in full, 15 GB for Habitat",
        terms="Matterport3D Terms of Use",
        needed_for="Habitat, and your own features from images",
        folder="scene_datasets/mp3d",
        by_hand="sign the agreement on https://niessner.github.io/Matterport/ and mail it; "
        "the script that comes back fetches them: python download_mp.py --task habitat "
        "-o DATA/scene_datasets/mp3d/ (Python 2.7)",
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
