"""A folder of pretended pictures and a pretended encoder, for the tests of the picture index; run as a script it
updates an index until it is killed:

    python index_parts.py PICTURES INDEX
"""

import importlib.util
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

if "clip_vae_lora" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "_cvl_checkout", Path(__file__).resolve().parents[3] / "headless" / "checkout.py"
    )
    _checkout = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_checkout)
    _checkout.bind()

from clip_vae_lora.index.reading import open_index
from clip_vae_lora.index.table import Facts
from clip_vae_lora.index.update import Embedded, update
from clip_vae_lora.index.writing import writing

WIDTH = 16
FACTS = Facts("key-of-the-model", "a pretended model", WIDTH, "../../pictures")


def feature(content: bytes) -> torch.Tensor:
    """A row of length 1 that the content alone decides."""
    seed = int.from_bytes(content, "little") % 2**31
    return F.normalize(torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)), dim=0)


def embed(paths, batch=8, pause_s=0.0):
    """Contents that begin with "no" are no pictures; those with "nan" have features that are none."""
    for start in range(0, len(paths), batch):
        contents = [path.read_bytes() for path in paths[start : start + batch]]
        kept = [n for n, content in enumerate(contents) if not content.startswith(b"no")]
        rows = [feature(contents[n]) * (float("nan") if contents[n].startswith(b"nan") else 1) for n in kept]
        time.sleep(pause_s)
        yield Embedded(
            [start + n for n in kept],
            torch.stack(rows) if rows else torch.empty(0, WIDTH),
            {start + n: "this is no picture" for n in set(range(len(contents))) - set(kept)},
        )


def run(index: Path, pictures: Path, facts: Facts = FACTS, **options):
    with writing(index, facts) as writer:
        return update(writer, pictures, options.pop("embed", embed), **options)


def make(pictures: Path, count: int, first: int = 0) -> None:
    pictures.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (pictures / f"{number:04}.png").write_bytes(b"picture %d" % number)


def rows_of(index: Path) -> dict[str, torch.Tensor]:
    """Return path -> row of every picture in the index."""
    found = open_index(index)
    rows = torch.cat(found.blocks) if found.blocks else torch.empty(0, WIDTH)
    dead = {int(row) + sum(map(len, found.blocks[:n])) for n, gone in enumerate(found.dead) for row in gone}
    living = [row for row in range(len(rows)) if row not in dead]
    pictures = found.pictures(living)
    assert found.rows == len(living) and None not in pictures
    return {picture.path: rows[row] for picture, row in zip(pictures, living)}


def check_equals_folder(index: Path, pictures: Path) -> None:
    """Check that the index holds each picture of the folder once, with the row of its present content, and no other."""
    kept = rows_of(index)
    wanted = {p.relative_to(pictures).as_posix(): p.read_bytes() for p in pictures.rglob("*.png")}
    wanted = {name: content for name, content in wanted.items() if not content.startswith((b"no", b"nan"))}
    assert kept.keys() == wanted.keys()
    assert all(torch.equal(kept[name], feature(content)) for name, content in wanted.items())


if __name__ == "__main__":
    run(Path(sys.argv[2]), Path(sys.argv[1]), embed=lambda paths: embed(paths, 4, 0.002), every=8)
