"""Small coloured pictures in folders, for trainings of seconds."""

from pathlib import Path

import torch

from clip_vae_lora.files.captioned.find import find_pairs
from clip_vae_lora.files.images import write_png
from clip_vae_lora.training.clip.data.examples import Prepared, prepare_pairs

COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.1), "blue": (0.1, 0.1, 0.9)}


def noisy(colour: str, seed: int, side: int = 20) -> torch.Tensor:
    """A picture of a colour with much noise, so that no two are alike. [side, side, 3]"""
    noise = torch.rand(side, side, 3, generator=torch.Generator().manual_seed(seed))
    return (torch.tensor(COLOURS[colour]) * 0.5 + noise * 0.5).clamp(0, 1)


def class_folder(folder: Path, each: int = 8) -> Path:
    """A folder for each colour."""
    for number, colour in enumerate(COLOURS):
        (folder / f"{colour}_thing").mkdir(parents=True)
        for place in range(each):
            write_png(folder / f"{colour}_thing" / f"{place}.png", noisy(colour, 100 * number + place), {})
    return folder


def captioned(folder: Path, count: int = 12) -> Path:
    """Pictures with a caption of their own each."""
    folder.mkdir(parents=True)
    for number in range(count):
        colour = list(COLOURS)[number % 3]
        write_png(folder / f"{number}.png", noisy(colour, number), {})
        (folder / f"{number}.txt").write_text(f"picture {number} is {colour}")
    return folder


def prepared(folder: Path, *templates: str) -> Prepared:
    return prepare_pairs(find_pairs(folder), 16, templates or ("a photo of a {}",))
