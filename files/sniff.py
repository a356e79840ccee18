"""What a file seems to be, by its first bytes, never by its name; and a mark by which a result knows whether it is
still the same. Nothing is executed or unpacked.
"""

import hashlib
import os
import stat
import zipfile
from os import PathLike
from pathlib import Path

from .contents import size_text
from .errors import FileFormatError

SAFETENSORS, TORCH_ZIP, TORCH_LEGACY, TORCHSCRIPT = "safetensors", "torch zip", "torch legacy", "torchscript"
_END_BYTES = 256 << 10  # at each end of a large file, for its mark
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library, too
WANTED = "expected a .safetensors file or a PyTorch file with nothing but tensors in it"

_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # LONG1, ten bytes: 0x1950a86a20f9469cfc6c
_PICTURE_EMBEDDING = b"tEXtsd-ti-embedding\0"  # a text chunk of a PNG; a1111 modules/textual_inversion writes it
_REFUSED = [  # first bytes: what that is
    (b"GGUF", "a GGUF file (quantised for llama.cpp); get the .safetensors version"),
    (b"GGML", "a GGML file (quantised for llama.cpp); get the .safetensors version"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data; download the real file (git lfs pull)"),
    (b"\x89HDF", "an HDF5 file (Keras); get the PyTorch or .safetensors version"),
    (b"\x93NUMPY", "a NumPy array file; get the .safetensors version"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"RIFF", "a RIFF file (WebP, WAV or AVI)"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"PK\x05\x06", "an empty zip archive"),
]


def regular_file_size(
    path: str | PathLike, wanted: str = WANTED, unfinished: str = "the download did not finish"
) -> int:
    """The size in bytes of an existing, regular, not empty file; FileFormatError for anything else, which says what was
    wanted, and how a file comes to be empty.
    """
    path = Path(path)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileFormatError(path, f"there is no such file in {path.parent}") from error
    except (OSError, ValueError) as error:
        raise FileFormatError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise FileFormatError(path, f"this is a folder; {wanted}")
    if not stat.S_ISREG(found.st_mode):
        raise FileFormatError(path, f"this is a device or a pipe; {wanted}")
    if found.st_size == 0:
        raise FileFormatError(path, f"the file is empty (0 bytes): {unfinished}; {wanted}")
    return found.st_size


def sniff(path: str | PathLike) -> str:
    """SAFETENSORS, TORCH_ZIP, TORCH_LEGACY or TORCHSCRIPT; a FileFormatError says what anything else seems to be."""
    path = Path(path)
    size = regular_file_size(path)
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror or error}") from error
    if head.startswith(b"\x89PNG") and _PICTURE_EMBEDDING in head:
        raise FileFormatError(
            path,
            "this seems to be one of A1111's embeddings in a picture, which are not read "
            "here; get it as .pt or .safetensors",
        )
    for magic, meaning in _REFUSED:
        if head.startswith(magic):
            raise FileFormatError(path, f"this seems to be {meaning}; {WANTED}")
    if head.startswith(b"PK\x03\x04"):
        return TORCHSCRIPT if _is_torchscript(zip_records(path)) else TORCH_ZIP
    if head[:1] == b"\x80" and head[2:14] == _LEGACY_MAGIC:
        return TORCH_LEGACY
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES:
        return SAFETENSORS
    raise FileFormatError(path, f"{_unreadable(path, head, size)}; {WANTED}")


def zip_records(path: str | PathLike) -> list[zipfile.ZipInfo]:
    """The table of contents of a zip archive; nothing in it is unpacked.

    Raises:
        FileFormatError: it is missing or broken.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileFormatError(
            path,
            "it begins like a PyTorch file, but its table of contents at the end is missing "
            "or broken: the download was cut short",
        ) from error


def _is_torchscript(records: list[zipfile.ZipInfo]) -> bool:
    names = [record.filename for record in records]
    return any("/code/" in name for name in names) and any(name.endswith("/constants.pkl") for name in names)


def check_zip(path: str | PathLike) -> list[zipfile.ZipInfo]:
    """The records of a torch zip archive, none compressed, all in one folder, none larger than the file.

    Raises:
        FileFormatError: cut short, a zip bomb, NumPy's .npz, or some other zip.
    """
    path = Path(path)
    size, records = regular_file_size(path), zip_records(path)
    names = [record.filename for record in records]
    if any(name.endswith(".npy") for name in names):
        raise FileFormatError(path, f"this seems to be NumPy's .npz archive; {WANTED}")
    if not any(name.endswith("/data.pkl") for name in names):
        raise FileFormatError(path, f"this is a zip archive without tensors in it; {WANTED}")
    if (
        any(record.compress_type or record.file_size != record.compress_size for record in records)
        or sum(record.file_size for record in records) > size
    ):
        raise FileFormatError(
            path,
            "its records are compressed or overlap, as in a zip bomb, and PyTorch never writes "
            "that; nothing was unpacked",
        )
    roots = {name.split("/")[0] for name in names}
    if len(roots) > 1 or any(".." in name.split("/") or "\\" in name or name.startswith("/") for name in names):
        raise FileFormatError(
            path, "its records lie in more than one folder, and PyTorch never writes that; nothing was unpacked"
        )
    return records


def _unreadable(path: Path, head: bytes, size: int) -> str:
    """What a file without one of the known beginnings seems to be."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"<" and any(mark in text[:1024].lower() for mark in (b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "this seems to be a web page, saved instead of the file: log in or accept the licence, download again"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "this is a bare pickle, which can run code when opened (nothing was run)"
    if b"onnx" in head[:256] or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return "this seems to be an ONNX file; get the .safetensors version"
    if head[8:9] == b"{" and path.suffix == ".safetensors":
        promised = int.from_bytes(head[:8], "little")
        return f"its safetensors header claims to have {size_text(promised)}, and 100 MB is the limit"
    if size < 9:
        return f"it has only {size} bytes: the download was cut short"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head) and head.decode("utf-8", "replace").count("\ufffd") < 2:
        kind = "JSON" if text[:1] in b"{[" else "text"
        return f"this seems to be {kind}, beginning {head[:40].decode('utf-8', 'replace')!r}"
    if not any(head):
        return "it begins with zeros only: the download is damaged or was cut short"
    return "this is no file of a kind known here"


def status_mark(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return a mark of a file by what the disk says of it: time, size, when it was last written to, and its number.

    Time and size alone can lie: a copy that keeps times (`cp -p`, `rsync -t`), a clock set back.
    """
    return status.st_mtime_ns, status.st_size, status.st_ctime_ns, status.st_ino


def content_mark(path: Path) -> str:
    """Return a mark of a file's content, 16 letters: of its size and all of it up to 512 KB, else of its first and last
    256 KB, which hold the header of a model and the end of its weights.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.blake2b(file.read(_END_BYTES), digest_size=8)
        size = os.fstat(file.fileno()).st_size
        if size > _END_BYTES:
            file.seek(max(_END_BYTES, size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    digest.update(str(size).encode())
    return digest.hexdigest()


def file_mark(path: Path) -> str:
    """Return a mark that changes when a file does, by content, too; "missing" where there is none.

    On Windows, which does not say when a file was last written to, content is what tells of a time that lies.
    """
    try:
        status = path.stat()
        content = content_mark(path) if path.is_file() else ""
    except (OSError, ValueError):
        return "missing"
    return ":".join([*map(str, status_mark(status)), content])
