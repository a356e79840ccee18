"""Picture files such as disks come to hold: every kind that Pillow writes, bytes flipped, cut, mixed; all of it seeded.

As a program: `python tests/support/files/odd_pictures.py FOLDER COUNT [SEED]`.
"""

import io
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image

MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F", "YCbCr")
ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".avif", ".jp2", ".tga", ".ico", ".dds")
EXIF = (  # a quarter turn, and a date that is a number
    b"Exif\0\0II*\0\x08\0\0\0\x02\0"
    b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x32\x01\x0c\0\x01\0\0\0\x26\0\0\0"
    b"\0\0\0\0\0\0\0\0\0\0\xf8\x3f"
)


def sources(seed: int) -> list[bytes]:
    """Sound files of every kind and mode that Pillow writes, some of them with odd EXIF."""
    Image.init()
    chance, numbers = random.Random(seed), np.random.default_rng(seed)
    found = []
    for kind in sorted(set(Image.SAVE) - {"PDF"}):
        for mode in MODES:
            for options in ({}, {"exif": EXIF}):
                width, height = chance.randint(1, 48), chance.randint(1, 48)
                pixels = Image.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8))
                buffer = io.BytesIO()
                try:
                    (pixels if mode == "RGB" else pixels.convert("L").convert(mode)).save(buffer, kind, **options)
                except (OSError, ValueError, KeyError, TypeError, AttributeError, SystemError, NotImplementedError):
                    continue  # a kind that does not take this mode
                found.append(buffer.getvalue())
    return [data for data in found if data]


def damaged(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A file with bytes flipped, cut, doubled, filled or mixed with another; never empty."""
    content = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        way, place = chance.randrange(7), chance.randrange(len(content))
        if way == 0:
            for _ in range(chance.randint(1, 8)):
                content[chance.randrange(len(content))] = chance.randrange(256)
        elif way == 1:
            content = content[: place + 1]
        elif way == 2:
            head = min(len(content), 64)
            content[chance.randrange(head)] ^= 1 << chance.randrange(8)
        elif way == 3:
            other = chance.choice(others)
            content = content[:place] + other[min(place, len(other) - 1) :]
        elif way == 4:
            length = chance.randint(1, 64)
            content[place : place + length] = bytes([chance.choice((0, 255))]) * len(content[place : place + length])
        elif way == 5:
            content = content[:place] + content[place // 2 : place] + content[place:]
        else:
            content[place : place + 4] = chance.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)))
        content = content or bytearray(b"x")
    return bytes(content)


def odd_pictures(folder: Path, count: int, seed: int = 0) -> int:
    """Write so many files into a folder, a thousand to each folder below it; gives their number."""
    sound, chance = sources(seed), random.Random(seed)
    for number in range(count):
        place = folder / f"{number // 1000:04}"
        place.mkdir(exist_ok=True)
        path = place / f"{number:07}{chance.choice(ENDINGS)}"
        path.write_bytes(damaged(chance.choice(sound), sound, chance))
    return count


if __name__ == "__main__":
    odd_pictures(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
