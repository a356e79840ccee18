"""Small pictures in tar shards, and a short training on them."""

import io
import tarfile
from pathlib import Path

from clip_vae_lora.files.captioned.find import find_pairs
from clip_vae_lora.files.images import write_png
from clip_vae_lora.training.clip.data.examples import Prepared, prepare_pairs
from clip_vae_lora.training.clip.data.shards import read_shards_together
from clip_vae_lora.training.clip.presets import plan_of

from ..clip.pictures import COLOURS, noisy

SHORT = {"steps": 6, "batch": 8, "at_once": 3, "lr": 1e-3, "warm_up": 2, "seed": 5, "held_out": 0.0}
PLANS = {
    "contrastive": plan_of("from-scratch-small", SHORT),
    "classes": plan_of("none", SHORT | {"loss": "classes"}),
}


def tar_folder(folder: Path, sizes: tuple[int, ...] = (5, 7, 6, 6)) -> Path:
    """A shard for each number of pictures, each of a colour, which is its class."""
    folder.mkdir(parents=True)
    for number, count in enumerate(sizes):
        with tarfile.open(folder / f"{number:03}.tar", "w") as archive:
            for place in range(count):
                colour = list(COLOURS)[(number + place) % 3]
                write_png(folder / "one.png", noisy(colour, 100 * number + place), {})
                archive.add(folder / "one.png", f"{place}.png")
                word = tarfile.TarInfo(f"{place}.cls")
                word.size = len(colour)
                archive.addfile(word, io.BytesIO(colour.encode()))
    (folder / "one.png").unlink()
    return folder


def prepared(folder: Path) -> Prepared:
    return prepare_pairs(find_pairs(folder, read=read_shards_together), 16, ("a photo of a {}",))
