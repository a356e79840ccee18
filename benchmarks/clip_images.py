"""From JPEG files to CLIP features: ours beside the peers, as ratios in one run.

    python benchmarks/clip_images.py [--openai FOLDER] [--files 128] [--px 640x480] [--rounds 3] [--threads 2]

ViT-B/32 in full size with seeded random weights, the same in all; fp32, 32 files at a time, from file names to
features. The peers as their users run them: Pillow, their own transform, `eval`, `inference_mode`; once in a plain
loop, once behind a DataLoader with as many workers as threads. FOLDER holds openai/CLIP's package `clip`. The machine
may be shared: all contestants run in each round, in changing order, and medians of the clock are compared.
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
ROOT = _checkout.bind()

from clip_vae_lora.clip_core.checkpoint.find import find_clip  # noqa: E402
from clip_vae_lora.clip_core.config import PUBLISHED  # noqa: E402
from clip_vae_lora.clip_core.features.pictures import file_features  # noqa: E402
from clip_vae_lora.clip_core.networks.clip import CLIP, initialise_  # noqa: E402
from clip_vae_lora.files.pictures import read_square  # noqa: E402

BATCH = 32
TARGET, CLOSE = 1.2, 1e-5
Embed = Callable[[Sequence[Path]], Tensor]  # files -> [N, E], rows of length 1


def photographs(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """JPEGs cut out of the bundled photograph, turned and scaled, no two alike."""
    draw = torch.Generator().manual_seed(0)
    source = Image.open(Path(__file__).parents[1] / "example_workflows" / "input" / "grace_hopper.jpg").convert("RGB")
    paths = []
    for number in range(count):
        part, left, top, turn = torch.rand(4, generator=draw).tolist()
        across = int(min(source.size) * (0.4 + 0.4 * part))
        down = across * 3 // 4
        left, top = int(left * (source.width - across)), int(top * (source.height - down))
        picture = source.rotate(20 * turn - 10).resize((width, height), box=(left, top, left + across, top + down))
        paths.append(folder / f"{number:05}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


class Files(Dataset):
    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], Tensor]):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        return self.transform(Image.open(self.paths[place]).convert("RGB"))


def peer(transform: Callable[[Image.Image], Tensor], encode: Callable[[Tensor], Tensor], workers: int) -> Embed:
    def embed(paths: Sequence[Path]) -> Tensor:
        with torch.inference_mode():
            batches = DataLoader(Files(paths, transform), BATCH, num_workers=workers)
            return torch.cat([F.normalize(encode(pixels), dim=-1) for pixels in batches])

    return embed


def open_clip_peer() -> tuple[torch.nn.Module, Callable, Callable]:
    import open_clip

    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu", pretrained=None)
    return model.eval(), transform, model.encode_image


def transformers_peer(state: dict[str, Tensor]) -> tuple[Callable, Callable]:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    model = CLIPModel(CLIPConfig()).eval()
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert not [name for name in missing if "position_ids" not in name], missing
    processor = CLIPImageProcessor()

    def encode(pixels: Tensor) -> Tensor:
        found = model.get_image_features(pixel_values=pixels)
        return found if isinstance(found, Tensor) else found.pooler_output

    return (lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0]), encode


def openai_peer(folder: Path, state: dict[str, Tensor]) -> tuple[Callable, Callable]:
    sys.path.insert(0, str(folder))
    from clip.clip import _transform
    from clip.model import CLIP as Theirs

    model = Theirs(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12).eval()
    model.load_state_dict(state)
    return _transform(224), model.encode_image


def contestants(openai: Path | None, workers: int) -> dict[str, Embed]:
    model, transform, encode = open_clip_peer()
    shared = model.state_dict()
    source = find_clip({name: tuple(tensor.shape) for name, tensor in shared.items()}, {}, "quick_gelu")
    ours = initialise_(CLIP(PUBLISHED["ViT-B-32"]), 0).eval().requires_grad_(False)
    ours.load_state_dict(source.translate(shared))
    peers = {"open_clip": (transform, encode), "transformers": transformers_peer(ours.state_dict())}
    if openai is not None:
        names = {name: tensor for name, tensor in shared.items() if not name.endswith("attn_mask")}
        peers["openai/CLIP"] = openai_peer(openai, names)
    found: dict[str, Embed] = {
        "ours": lambda paths: torch.cat([part.features for part in file_features(ours, paths, read_square)])
    }
    for name, parts in peers.items():
        found |= {f"{name}, loop": peer(*parts, 0), f"{name}, DataLoader": peer(*parts, workers)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--openai", type=Path)
    parser.add_argument("--files", type=int, default=128)
    parser.add_argument("--px", default="640x480")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    embeds = contestants(given.openai, given.threads)
    names, seconds = list(embeds), {name: [] for name in embeds}
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), given.files, *map(int, given.px.split("x")))
        features = {name: embed(paths[:BATCH]) for name, embed in embeds.items()}  # warm, and compared
        for turn in range(given.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                started = time.perf_counter()
                embeds[name](paths)
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min((name for name in names if name != "ours"), key=medians.get)
    print(f"{given.files} JPEGs of {given.px} px, {given.threads} threads, median of {given.rounds} rounds")
    for name in names:
        apart = (features[name] - features["ours"]).abs().max().item()
        print(
            f"  {name:26} {given.files / medians[name]:7.1f} files/s   {medians[name] / medians['ours']:.2f} x our "
            f"time   features {apart:.1e} apart"
        )
    ratio = medians[fastest] / medians["ours"]
    print(
        f"  over the fastest peer ({fastest}): {ratio:.2f} x (target >= {TARGET}: "
        f"{'met' if ratio >= TARGET else 'MISSED'}); features within {CLOSE:g} where the pixels are equal"
    )


if __name__ == "__main__":
    main()
