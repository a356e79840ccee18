"""Which way up a photograph is: the orientation mark of EXIF, read from its bytes alone, and the turn it asks for.

A camera's EXIF is often odd (types and numbers that the standard does not have, tables cut short), and none of that
concerns the pixels: only the one entry is looked at, nothing raises, and nothing is written back. After the TIFF 6.0
specification, section 2, and Exif 2.32, 4.6.4 (tag 0x0112). Where there is no such entry XMP is asked, as Pillow does.
"""

import re
import struct

from PIL import Image

_TAG = 0x0112
_TURNS = {  # as stored -> upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NUMBERS = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l"}  # TIFF's types of whole numbers that fit into an entry
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_MOST_ENTRIES = 4096  # a camera writes some dozens


def turned(picture: Image.Image, mark: int) -> Image.Image:
    """Turn a picture as its mark, 1 to 8, says."""
    turn = _TURNS.get(mark)
    return picture if turn is None else picture.transpose(turn)


def orientation(picture: Image.Image, exif: bytes | None = None) -> int:
    """Return the mark of a picture of Pillow's that has been loaded, 1 where it has none; `exif` is that of the file
    where the picture was opened without it.
    """
    info = picture.info
    found = in_exif(exif if exif is not None else _exif_of(info))
    if found:
        return found
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    match = _XMP.search(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp))
    return int(match[1]) if match else 1


def in_exif(data: bytes) -> int:
    """Return the orientation that a block of EXIF has, 0 where it has none, or none from 1 to 8."""
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 10:
        return 0
    (first,) = struct.unpack_from(order + "L", data, 4)
    if first + 2 > len(data):
        return 0
    (entries,) = struct.unpack_from(order + "H", data, first)
    found = 0
    for place in range(first + 2, min(first + 2 + 12 * min(entries, _MOST_ENTRIES), len(data) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHL", data, place)
        if tag == _TAG and kind in _NUMBERS and count == 1:
            (value,) = struct.unpack_from(order + _NUMBERS[kind], data, place + 8)
            found = value if 1 <= value <= 8 else found  # the last one counts, as in Pillow
    return found


def _exif_of(info: dict) -> bytes:
    data = info.get("exif")
    if isinstance(data, bytes):
        return data
    profile = info.get("Raw profile type exif")  # a text of ImageMagick's in a PNG: "\nexif\n      42\n4578..."
    digits = "".join(profile.split("\n")[3:]) if isinstance(profile, str) else ""
    return bytes.fromhex(digits) if re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", digits) else b""
