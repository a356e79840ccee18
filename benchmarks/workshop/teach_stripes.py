"""What the example `train_lora` teaches: Train LoRA as it is set there, and what the model draws then, by its pixels.

    python benchmarks/workshop/teach_stripes.py [--prompts N] [--threads N] [--set NAME=VALUE ...]

Prompts of trained pairs with the word and without it, with the LoRA and without it, from the same noise. Told are the
shares with stripes, and how many plain prompts still show what they say. Without ComfyUI; about five minutes on a core.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "headless"))
import checkout

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS  # noqa: E402
from clip_vae_lora.nodes.host.alone import place  # noqa: E402
from clip_vae_lora.training.generation import generate, share_right  # noqa: E402
from clip_vae_lora.training.recipes.clip import read_clip  # noqa: E402
from clip_vae_lora.training.recipes.vae import read_vae  # noqa: E402
from clip_vae_lora.training.scenes.reading import shows_stripes  # noqa: E402
from clip_vae_lora.training.scenes.scene import TRAINED, pair_label  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example_workflows" / "api" / "train_lora.json"
TRAINER, SEED = "2005", 5
_READERS = {"clip": read_clip, "vae": read_vae}


def _made(graph: dict, node: str, slot: int, changes: dict):
    """The output of a node of the example, and of those before it."""
    kind = NODE_CLASS_MAPPINGS[graph[node]["class_type"]]
    given = {
        name: _made(graph, *value, changes) if isinstance(value, list) else value
        for name, value in graph[node]["inputs"].items()
    }
    if node == TRAINER:
        given |= {name: type(given[name])(value) for name, value in changes.items()}
    answer = getattr(kind(), kind.FUNCTION)(**given)
    return (answer["result"] if isinstance(answer, dict) else answer)[slot]


def _striped(pictures: Tensor) -> float:
    return sum(map(shows_stripes, pictures)) / len(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another input of Train LoRA")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    graph = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    changes = dict(one.split("=", 1) for one in options.set)
    with tempfile.TemporaryDirectory() as folder:
        place.HERE.output = Path(folder)
        begun = time.monotonic()
        taught = _made(graph, TRAINER, 0, changes)
        seconds = time.monotonic() - begun
    plain = _made(graph, graph[TRAINER]["inputs"]["model"][0], 0, changes)
    clip, vae = (read(ROOT / "models" / f"tiny_{name}.safetensors") for name, read in _READERS.items())
    order = torch.randperm(len(TRAINED), generator=torch.Generator().manual_seed(99)).tolist()
    pairs = [TRAINED[order[number % len(order)]] for number in range(options.prompts)]
    print(f"trained in {seconds:.0f} s on {options.threads} threads; {options.prompts} prompts")
    for name, model in (("without the LoRA", plain), ("with the LoRA", taught)):
        said = [f"a photo of a striped {pair_label(pair)}" for pair in pairs]
        words = _striped(generate(model.network, clip, vae, said, SEED))
        pictures = generate(model.network, clip, vae, [f"a photo of a {pair_label(pair)}" for pair in pairs], SEED)
        print(
            f"{name}: stripes with the word {words:.1%}, without it {_striped(pictures):.1%}; "
            f"plain prompts right {share_right(pictures, pairs):.1%}"
        )


if __name__ == "__main__":
    main()
