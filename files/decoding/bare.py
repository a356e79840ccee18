"""A picture's file without what is said about the picture (EXIF, XMP, profiles, texts), its pixels as they are.

Pillow gives up a whole file when such a part is damaged, odd or large. The pixels do not depend on it, but for the
orientation mark, whose EXIF is handed back. JPEG: ITU T.81, B.1.1; PNG: the W3C's specification, 5; WebP: Google's
container specification; AVIF: ISO 14496-12, where an item of the kind "Exif" becomes one that nobody asks for.
"""

import struct
from dataclasses import dataclass

_PNG_NEEDED = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT"}
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_JPEG_LEFT_OUT = {0xE1, 0xE2, 0xED, 0xFE}  # APP1 EXIF and XMP, APP2 profile and MPF, APP13 Photoshop's, comment
_WEBP_LEFT_OUT = {b"EXIF", b"XMP ", b"ICCP"}
_AVIF_HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Bare:
    """The file without what was left out, and the EXIF that it had, if any."""

    data: bytes
    exif: bytes


def bare(data: bytes) -> Bare | None:
    """Leave out what is said about a picture; None where there is nothing to leave out, or the kind is another."""
    if data.startswith(b"\xff\xd8\xff"):
        found = _jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        found = _png(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        found = _webp(data)
    elif data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        found = _avif(data)
    else:
        return None
    return None if found.data == data else found


def _jpeg(data: bytes) -> Bare:
    kept, exif, place = [data[:2]], b"", 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _JPEG_ALONE or marker == 0xFF:
            end = place + (1 if marker == 0xFF else 2)
        elif marker == 0xDA:  # the pixels, to the end
            break
        else:
            end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place:end]
        if marker in _JPEG_LEFT_OUT:
            exif = exif or (segment[4:] if segment[4:10] == b"Exif\0\0" else b"")
        else:
            kept.append(segment)
        place = end
    return Bare(b"".join([*kept, data[place:]]), exif)


def _png(data: bytes) -> Bare:
    kept, exif, place = [data[:8]], b"", 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if kind in _PNG_NEEDED:
            kept.append(data[place:end])
        elif kind == b"eXIf":
            exif = data[place + 8 : end - 4]
        place = end
        if kind == b"IEND":
            break
    return Bare(b"".join([*kept, data[place:]]), exif)


def _webp(data: bytes) -> Bare:
    kept, exif, place = [], b"", 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        end = place + 8 + size + size % 2
        if data[place : place + 4] in _WEBP_LEFT_OUT:
            exif = data[place + 8 : place + 8 + size] if data[place : place + 4] == b"EXIF" else exif
        else:
            kept.append(data[place:end])
        place = end
    body = b"".join([*kept, data[place:]])
    return Bare(b"RIFF" + struct.pack("<L", (len(body) + 4) & 0xFFFFFFFF) + b"WEBP" + body, exif)


def _avif(data: bytes) -> Bare:
    """How an AVIF is turned is said outside EXIF (irot, imir), and that stays."""
    head = data[:_AVIF_HEAD_BYTES]
    place = head.find(b"infe")
    while place >= 0:
        entry = head[place : place + 20]  # "infe", version and flags, number, protection, kind
        head = head[:place] + entry.replace(b"Exif\0", b"none\0") + head[place + 20 :]
        place = head.find(b"infe", place + 4)
    return Bare(head + data[_AVIF_HEAD_BYTES:], b"")
