"""The bundled CLIP taught a new shape by twenty pictures, by CLIP-LoRA, and judged by pictures that it never saw.

    python benchmarks/learning/clip_new_shape.py [--shape NAME] [--published] [--steps N] [--old N] [--threads N]

The shape is a frame (a hollow square) or an hourglass; its twenty pictures lie, each several times, beside `--old` of
each shape that the CLIP knows, from which it is to be told. The preset is CLIP-LoRA with numbers that suit so small a
CLIP and drawn shapes (`NUMBERS`), or, with `--published`, as its authors have it. Told, before and after: the share of
300 new ones that are called by their name, and of 1000 old shapes that are, the new name always among the eleven.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Generator, Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "headless"))
import checkout

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.files.images import write_png  # noqa: E402
from clip_vae_lora.nodes.clip.load import load_clip_model  # noqa: E402
from clip_vae_lora.nodes.host import host  # noqa: E402
from clip_vae_lora.nodes.training.clip_training import Asked, Watching, train, trained_model  # noqa: E402
from clip_vae_lora.training.scenes.drawing import draw  # noqa: E402
from clip_vae_lora.training.scenes.scene import SHAPES, random_scenes  # noqa: E402
from clip_vae_lora.training.scenes.shapes import DISTANCES  # noqa: E402
from clip_vae_lora.training.scores import TEMPLATE, choose  # noqa: E402

MODEL = Path(__file__).resolve().parents[2] / "models" / "tiny_clip.safetensors"
LEARN, SIDE_PX = 20, 96
NUMBERS = {  # a cut of a twelfth of the picture, as published, shows no shape; a rank of 2 in so small a CLIP little
    "lr": 2e-3,
    "rank": 8,
    "alpha": 8.0,
    "layers": "linear",
    "dropout": 0.0,
    "crop": 0.8,
    "jitter": 0.2,
    "average": 0.98,
}


def hourglass(x: Tensor, y: Tensor) -> Tensor:
    """Two triangles that meet at a corner; negative inside, about the distance."""
    return torch.maximum(0.8 * (x.abs() - 0.75 * y.abs()), y.abs() - 0.9)


def frame(x: Tensor, y: Tensor) -> Tensor:
    """A square with a hole; negative inside."""
    return (torch.maximum(x.abs(), y.abs()) - 0.65).abs() - 0.18


NEW = {"frame": frame, "hourglass": hourglass}


def of_the_new(name: str, count: int, generator: Generator, side_px: int) -> Tensor:
    """Pictures of the new shape, as the old ones are drawn. [count, 3, S, S]"""
    scenes = random_scenes(count, generator)
    scenes.shape.zero_()
    with patch.dict(DISTANCES, {SHAPES[0]: NEW[name]}):
        return draw(scenes, side_px, generator)


def write_pictures(folder: Path, new: str, old: int, generator: Generator) -> None:
    """A folder for each shape: the new one's has LEARN pictures so many times that they are as many as the `old` of
    each of the others.
    """
    pictures = {new: of_the_new(new, LEARN, generator, SIDE_PX).repeat(max(1, old // LEARN), 1, 1, 1)}
    for number, name in enumerate(SHAPES):
        pictures[name] = draw(random_scenes(old, generator, tuple((number, c) for c in range(9))), SIDE_PX, generator)
    for name, some in pictures.items():
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(some):
            write_png(folder / name / f"{number:02}.png", picture.permute(1, 2, 0), {})


def judged(model: object, new: str, seed: int) -> tuple[float, float]:
    """The share of new and of old shapes that are called by their names, 0..1."""
    network, tokenizer, generator = host.clip_network(model), host.text_tokenizer(model), Generator().manual_seed(seed)
    texts = [TEMPLATE.format(name) for name in (*SHAPES, new)]
    side = network.config.vision.image_px
    scenes = random_scenes(1000, generator)
    old = choose(network, tokenizer, draw(scenes, side, generator), texts) == scenes.shape
    found = choose(network, tokenizer, of_the_new(new, 300, generator, side), texts) == len(SHAPES)
    return float(found.double().mean()), float(old.double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(NEW), default="frame")
    parser.add_argument("--published", action="store_true", help="the numbers of CLIP-LoRA's authors")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--old", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_clip_model(MODEL, "auto", "fp32")[0]
    with tempfile.TemporaryDirectory() as place:
        base, worked = Path(place), time.process_time()
        write_pictures(base / "shapes", options.shape, options.old, Generator().manual_seed(options.seed + 1))
        given = {"preset": "CLIP-LoRA", "steps": options.steps, "seed": options.seed, "template": TEMPLATE}
        given |= {"held_out": 0.0, "every": options.steps} | ({} if options.published else NUMBERS)
        asked = Asked(given, base / "shapes", model, MODEL.name)
        watching = Watching(lambda *_: None, lambda *_: None)
        trained = train(asked, base, lambda prefix: base / "made.safetensors", watching, resume=False)
        worked = time.process_time() - worked
        size = (base / "made.safetensors").stat().st_size
    print("\n".join(trained.lines))
    print(f"the file has {size / 1000:.0f} kB; the processor worked {worked:.0f} s on {options.threads} threads")
    for name, one in (("before", model), ("after", trained_model(trained, model))):
        new, old = judged(one, options.shape, 7)
        print(f"{name}: {new:.1%} of new {options.shape}s, {old:.1%} of old shapes are called by their names")


if __name__ == "__main__":
    main()
