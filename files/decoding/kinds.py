"""The kinds of picture that are read: named, told from a file's content, and all of them by Pillow itself. Every other
kind is refused: some of Pillow's readers start another program (PostScript: Ghostscript), ask the system (Windows
metafiles), or open whatever lies inside (IPTC).

Facts from Pillow 13 (the `accept` functions and `register_extension` calls of its plugins) and from the pages of the
formats named in `_FOREIGN`.
"""

from functools import cache

from PIL import Image

KINDS = {  # Pillow's name: the endings of such files. Kinds without a mark at their beginning stand last
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),  # opened as JPEG
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "ICO": (".ico",),
    "CUR": (".cur",),
    "ICNS": (".icns",),
    "DDS": (".dds",),
    "BLP": (".blp",),
    "FTEX": (".ftc", ".ftu"),
    "GBR": (".gbr",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "PCX": (".pcx",),
    "DCX": (".dcx",),
    "FITS": (".fits", ".fit"),
    "FLI": (".fli", ".flc"),
    "MSP": (".msp",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
    "PIXAR": (".pxr",),
    "MCIDAS": (),
    "XVTHUMB": (),
    "PCD": (".pcd",),
    "IM": (".im",),
    "SPIDER": (".spi",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
}
SUFFIXES = tuple(suffix for suffixes in KINDS.values() for suffix in suffixes)
OTHER_PICTURES = frozenset(  # endings of pictures of other kinds: left out, and said by name
    ".heic .heif .hif .jxl .jxr .wdp .hdp .exr .hdr .svg .svgz .eps .ps .epsf .ai .pdf .wmf .emf .xcf .kra .psb .clip "
    ".cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .dng .orf .rw2 .raf .pef .srw .x3f .3fr .iiq .erf .mrw .raw .ktx .ktx2 "
    ".pam .flif .bpg .djvu .cdr .procreate .afphoto .iim .fpx .mic .wal .palm .dpx .cin .jls".split()
)
_FOREIGN = (  # first bytes behind an offset, what that is
    (0, b"%!PS", "PostScript, which needs another program"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript, which needs another program"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (40, b" EMF", "a Windows metafile"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?R", "a Radiance HDR picture"),
    (0, b"gimp xcf", "a GIMP project"),
    (0, b"8BPS\x00\x02", "a large Photoshop document (PSB)"),
    (8, b"AVI ", "an AVI video"),
    (8, b"WAVE", "a sound (WAV)"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (0, b"GRIB", "a GRIB weather file"),
    (0, b"BUFR", "a BUFR weather file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the picture"),
    (4, b"ftypavif", "AVIF, which this Pillow cannot read (11.3 and newer can)"),
    (4, b"ftypavis", "AVIF, which this Pillow cannot read (11.3 and newer can)"),
)
_BEGINNINGS = (  # of kinds that are read: first bytes behind an offset
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WEBP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (0, b"8BPS\0\x01", "PSD"),
)
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_WANTED = "save it as PNG, JPEG or WebP"


@cache
def known() -> tuple[str, ...]:
    """Return Pillow's names of the kinds that it can read here, in the order in which they are to be tried."""
    Image.init()
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def refusal(head: bytes) -> str:
    """Say what a file that is of no known kind seems to be, from its first bytes (512 or so)."""
    for offset, mark, kind in _BEGINNINGS:
        if head.startswith(mark, offset) and kind in known():
            return f"it begins as {kind}, but its header is damaged or was cut short"
    for offset, mark, what in _FOREIGN:
        if head.startswith(mark, offset):
            return f"this is {what}, and no kind of picture that is read here; {_WANTED}"
    if head[4:8] == b"ftyp":
        what = "HEIC or HEIF" if head[8:12] in _HEIF else "a video"
        return f"this is {what}, and no kind of picture that is read here; {_WANTED}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return f"this is SVG, and no kind of picture that is read here; {_WANTED}"
    if text.startswith((b"<!doctype", b"<html", b"<head")):
        return "this seems to be a web page, saved instead of the picture; download the picture itself"
    return "this is no picture of a kind known here; expected PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF or the like"
