"""Archives: good ones of every kind come out as they are; hostile ones are refused in one line."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterna.data.get import disk
from sterna.data.get.archives import is_archive
from sterna.data.get.names import safe_parts
from sterna.data.get.unpack import Limits, unpack
from sterna.errors import InputError

FILES = {"top/a.json": b"[1]", "top/deep/b.json": b"x" * 70_000, "top/empty": b""}


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        archive.mkdir("top")
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, **fields: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def entry(name: str, kind: bytes, **fields: Any) -> bytes:
    """A tar of one good file and one entry of another kind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("good"), io.BytesIO())
        info = tarfile.TarInfo(name)
        info.type = kind
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info)
    return out.getvalue()


def out_of(tmp_path: Path, content: bytes, **options: Any) -> dict[str, bytes]:
    archive, folder = tmp_path / "in" / "archive", tmp_path / "out" / "here"
    archive.parent.mkdir()
    folder.mkdir(parents=True)
    archive.write_bytes(content)
    unpack(archive, folder, **options)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o111 == 0 for path in files)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


GOOD: dict[str, Callable[[], bytes]] = {
    "zip": lambda: zipped(FILES),
    "zip stored": lambda: zipped(FILES, zipfile.ZIP_STORED),
    "tar": lambda: tarred(FILES),
    "tar gnu": lambda: tarred(FILES, tarfile.GNU_FORMAT),
    "tar ustar": lambda: tarred(FILES, tarfile.USTAR_FORMAT, mode=0o777),
    "tar.gz": lambda: gzip.compress(tarred(FILES)),
    "tar.gz in pieces": lambda: (
        gzip.compress(tarred(FILES)[:999]) + gzip.compress(tarred(FILES)[999:])
    ),
    "tar.bz2": lambda: bz2.compress(tarred(FILES)),
    "tar.xz": lambda: lzma.compress(tarred(FILES)),
    "tar dotted": lambda: tarred({f"./{name}": content for name, content in FILES.items()}),
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_archives_come_out_as_they_are(tmp_path: Path, kind: str) -> None:
    """But for a folder that holds everything."""
    expected = {path.removeprefix("top/"): content for path, content in FILES.items()}
    assert out_of(tmp_path, GOOD[kind]()) == expected


def test_a_folder_that_holds_everything_may_hold_its_own_name(tmp_path: Path) -> None:
    assert out_of(tmp_path, zipped({"top/top/top": b"1"})) == {"top": b"1"}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_understood(tmp_path: Path, form: int) -> None:
    name = "/".join(["d" * 60] * 5)
    assert out_of(tmp_path, tarred({name: b"1", "a": b"2"}, form))[name] == b"1"


def test_only_a_folder_of_it_is_taken_if_one_is_wanted(tmp_path: Path) -> None:
    files = {"repo-1/data/BBox/a.json": b"a", "repo-1/data/BBox/s/b.json": b"b", "repo-1/x": b"x"}
    files |= {"__MACOSX/data/BBox/._a.json": b"no", "repo-1/data/BBox/.DS_Store": b"no"}
    files["repo-1/data/BBox/sterna-receipt.json"] = b"another's"
    assert out_of(tmp_path, zipped(files), inside="data/BBox") == {"a.json": b"a", "s/b.json": b"b"}
    with pytest.raises(InputError, match="it holds nothing in 'data/Box'"):
        unpack(tmp_path / "in" / "archive", tmp_path / "out", inside="data/Box")


NAMES = {
    "absolute": "/etc/passwd",
    "climbing": "top/../../out",
    "climbing alone": "..",
    "backslash": "top\\..\\out",
    "drive": "C:/out",
    "stream": "a.json:hidden",
    "double slash": "top//a",
    "dot inside": "top/./a",
    "control": "a\nb",
    "bidi": "a\u202ejson",
    "not ascii": "caf\u00e9",
    "device": "top/NUL.txt",
    "ends with a dot": "top./a",
    "begins with a space": " a",
    "long": "a" * 201,
    "deep": "/".join("a" * 40),
    "star": "a*",
}


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_plainly_below_it(
    tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    with pytest.raises(InputError, match="archive: not unpacked: it holds ") as caught:
        out_of(tmp_path, make({"good": b"1", NAMES[name]: b"2"}))
    assert "\n" not in str(caught.value) and str(caught.value).isascii()
    assert not list((tmp_path / "out" / "here").iterdir())


def test_plain_names_are_taken() -> None:
    assert safe_parts("./top/a b (1).json") == ("top", "a b (1).json")
    assert safe_parts("top/") == ("top",) and safe_parts("./") == ()


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("names", [("a", "A"), ("d/a", "D/b"), ("d", "d/a"), ("a", "./a")])
def test_two_entries_for_one_file(
    tmp_path: Path, names: tuple[str, str], make: Callable[[dict[str, bytes]], bytes]
) -> None:
    with pytest.raises(InputError, match=r"one name to many|as a file and|twice"):
        out_of(tmp_path, make(dict.fromkeys(names, b"1")))
    assert not list((tmp_path / "out" / "here").iterdir())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(InputError, match="it holds 'a' twice"):
        out_of(tmp_path, out.getvalue())


@pytest.mark.parametrize(
    "content",
    [
        entry("link", tarfile.SYMTYPE, linkname="/etc"),
        entry("link", tarfile.LNKTYPE, linkname="good"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("disk", tarfile.BLKTYPE, devmajor=8),
        entry("tty", tarfile.CHRTYPE, devmajor=4),
        entry("holes", tarfile.GNUTYPE_SPARSE),
    ],
    ids=["symbolic link", "hard link", "pipe", "block device", "character device", "sparse"],
)
def test_links_and_devices(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="neither a file nor a folder"):
        out_of(tmp_path, content)


def test_a_link_then_a_file_through_it(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("door")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("door/escaped"), io.BytesIO())
    with pytest.raises(InputError, match="neither a file nor a folder"):
        out_of(tmp_path, out.getvalue())
    assert not (tmp_path / "escaped").exists()


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        out_of(tmp_path, out.getvalue())


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_compressed_in_other_ways(tmp_path: Path, kind: int) -> None:
    with pytest.raises(InputError, match="compressed in a way not understood"):
        out_of(tmp_path, zipped(FILES, kind))


def test_encrypted_zips(tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"1"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.rindex(mark)
        content[at + offset] |= 1
    with pytest.raises(InputError, match="encrypted"):
        out_of(tmp_path, bytes(content))


SMALL = Limits(files=20, ratio=100, floor=1 << 16)


@pytest.mark.parametrize(
    "content",
    [
        zipped({"a": bytes(1 << 20)}),
        zipped({str(i): bytes(1 << 15) for i in range(9)}),
        gzip.compress(tarred({"a": bytes(1 << 20)})),
        bz2.compress(tarred({"a": bytes(1 << 20)})),
        lzma.compress(tarred({"a": bytes(1 << 20)})),
    ],
    ids=["zip", "zip of several", "gz", "bz2", "xz"],
)
def test_bombs(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"it unpacks to more than \d+\.?\d* KB: a bomb"):
        out_of(tmp_path, content, limits=SMALL)
    assert not list((tmp_path / "out" / "here").iterdir())


def test_too_many_entries(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 20 entries"):
        out_of(tmp_path, tarred({str(i): b"" for i in range(21)}), limits=SMALL)


def test_a_zip_that_declares_less_than_it_holds(tmp_path: Path) -> None:
    """The declared size is in two places; what unpacks to more is damaged, not unpacked."""
    content = bytearray(zipped({"a": bytes(50_000)}))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.rindex(mark)
        content[at + offset : at + offset + 4] = (10).to_bytes(4, "little")
    with pytest.raises(InputError, match=r"it is damaged or no archive \(Bad CRC-32"):
        out_of(tmp_path, bytes(content))


def test_a_tar_that_declares_gigabytes(tmp_path: Path) -> None:
    block = tarfile.TarInfo("a")
    block.size = 1 << 40
    content = block.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    with pytest.raises(InputError, match="a bomb"):
        out_of(tmp_path, content)
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with pytest.raises(InputError, match="a header of 8,589,934,592 bytes"):
        unpack_bytes(tmp_path, header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def unpack_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one").write_bytes(content)
    unpack(tmp_path / "one", tmp_path)


def test_a_tar_that_goes_on_behind_its_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="goes on behind its end marker"):
        unpack_bytes(tmp_path, gzip.compress(tarred(FILES) + bytes(2 << 20)))


def test_headers_without_end(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    with pytest.raises(InputError, match="more than 8 headers for one entry"):
        unpack_bytes(tmp_path, header.tobuf(tarfile.USTAR_FORMAT) * 9)


def test_extended_attributes_that_lie(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    for body in (b"99 path=a\n", b"9 path=a", b"x path=a\n", b"18 GNU.sparse.x=1\n", b"-1 a=b\n"):
        header.type, header.size = tarfile.XHDTYPE, len(body)
        block = header.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0")
        with pytest.raises(InputError, match=r"not unpacked: it"):
            unpack_bytes(tmp_path, block + bytes(1024))
    climbing = tarred({"a": b"1"}, pax_headers={"path": "../b"})
    with pytest.raises(InputError, match=r"climbs out with \.\."):
        unpack_bytes(tmp_path, climbing)


@pytest.mark.parametrize("kind", GOOD)
def test_archives_that_end_too_early(tmp_path: Path, kind: str) -> None:
    content = GOOD[kind]()
    folder = tmp_path / "f"
    for share in (0.0, 0.2, 0.5, 0.8, 0.97):
        folder.mkdir()
        (tmp_path / "one").write_bytes(content[: int(len(content) * share)])
        if kind.startswith("tar") and "." not in kind and share == 0.97:
            continue  # only zeros are left behind its end marker
        with pytest.raises(InputError, match=r"one: not unpacked: it (is damaged|ends|has no end)"):
            unpack(tmp_path / "one", folder)
        for path in [*folder.rglob("*")][::-1]:
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"hello" * 200, gzip.compress(b"[1, 2]", mtime=0), b"\x1f\x8b"],
    ids=["empty", "cut zip", "text", "gzip of JSON", "cut gzip"],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one").write_bytes(content)
    assert not is_archive(tmp_path / "one")
    with pytest.raises(InputError, match="it is damaged or no archive"):
        unpack(tmp_path / "one", tmp_path / "out")


def test_an_xz_that_asks_for_gigabytes_of_memory(tmp_path: Path) -> None:
    content = bytearray(lzma.compress(tarred({"a": b"1"})))
    size = (content[12] + 1) * 4  # the block header: sizes, flags, then LZMA2 (0x21, 1, dictionary)
    at = content.index(b"\x21\x01", 12)
    content[at + 2] = 40  # 4 GiB
    content[12 + size - 4 : 12 + size] = zlib.crc32(content[12 : 12 + size - 4]).to_bytes(
        4, "little"
    )
    with pytest.raises(
        InputError, match=r"it is damaged or no archive \(Memory usage limit exceeded"
    ):
        out_of(tmp_path, bytes(content))


def test_a_disk_that_fills_up_is_said_to_be_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, data: bytes) -> None:
        raise disk.failed(OSError(errno.ENOSPC, "No space left on device"), file.name)

    with monkeypatch.context() as patch, pytest.raises(disk.NoRoomError, match="No space left"):
        patch.setattr(disk, "write", full)
        out_of(tmp_path, zipped(FILES))
    monkeypatch.setattr(disk, "free", lambda folder: 10)
    with pytest.raises(disk.NoRoomError, match=r"unpacking one needs 70\.0 KB"):
        unpack_bytes(tmp_path, zipped(FILES))
