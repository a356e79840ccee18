"""Few labels: every method, and the one that cross-validation chooses, by accuracy on the pictures without a label.

    python benchmarks/learning/few_labels.py --set digits --labels 1 4 16 --seeds 5
    python benchmarks/learning/few_labels.py --set shapes colours pairs --labels 1 2 4 8

digits: scikit-learn's, 1797 of 8 x 8 raw pixels, no texts. shapes, colours, pairs: drawn pictures and class texts by
the bundled CLIP; wrong: the shapes with each other's texts. For each number of labels: the mean over the seeds of
what was chosen, of each method (its best setting by cross-validation), and the least gap of the chosen to the best
single method of a seed, in points. Labels are drawn by the seed, as many of each class.
"""

import argparse
import importlib.util
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[2] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.clip_core.few_labels.learning import Wish, learn  # noqa: E402
from clip_vae_lora.clip_core.few_labels.methods import METHODS  # noqa: E402
from clip_vae_lora.clip_core.few_labels.task import UNLABELLED  # noqa: E402
from clip_vae_lora.clip_core.tokenizer import Tokenizer  # noqa: E402
from clip_vae_lora.training.recipes.clip import read_clip  # noqa: E402
from clip_vae_lora.training.scenes.drawing import draw  # noqa: E402
from clip_vae_lora.training.scenes.scene import COLOURS, SHAPES, pair_label, random_scenes  # noqa: E402
from clip_vae_lora.training.scores import TEMPLATE, caption_features, picture_features  # noqa: E402

MODELS = Path(__file__).parents[2] / "models"
SETS = ["digits", "shapes", "colours", "pairs", "wrong"]
PAIRS = [(shape, colour) for shape in range(5) for colour in range(4)]


def digits():
    """The features, the truth, the classes, no texts, and the factor on cosines."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.data).float(), torch.tensor(found.target), list("0123456789"), None, 100.0


def drawn(kind: str, count: int = 1000):
    """The same of drawn pictures, by the bundled CLIP."""
    generator = torch.Generator().manual_seed(5)
    model = read_clip(MODELS / "tiny_clip.safetensors")
    pairs = PAIRS if kind == "pairs" else [(shape, colour) for shape in range(10) for colour in range(9)]
    scenes = random_scenes(count, generator, pairs)
    if kind == "pairs":
        names = [pair_label(pair) for pair in PAIRS]
        truth = torch.tensor([PAIRS.index(pair) for pair in zip(scenes.shape.tolist(), scenes.colour.tolist())])
    elif kind == "colours":
        names, truth = [f"{name} shape" for name in COLOURS], scenes.colour
    else:
        names, truth = list(SHAPES), scenes.shape
    texts = names if kind != "wrong" else [*names[1:], names[0]]
    with torch.inference_mode():
        pictures = picture_features(model, draw(scenes, model.config.vision.image_px, generator))
        words = caption_features(model, Tokenizer(), [TEMPLATE.format(text) for text in texts])
        return pictures, truth, names, words, float(model.logit_scale.exp())


def labelled(truth: torch.Tensor, each: int, seed: int) -> torch.Tensor:
    """Labels of `each` pictures of every class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.full_like(truth, UNLABELLED)
    for number in range(int(truth.max()) + 1):
        members = (truth == number).nonzero()[:, 0]
        chosen = members[torch.randperm(len(members), generator=generator)[:each]]
        labels[chosen] = number
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--set", nargs="+", default=["digits"], choices=["digits", "shapes", "colours", "pairs", "wrong"]
    )
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    for kind in asked.set:
        features, truth, names, words, scale = digits() if kind == "digits" else drawn(kind)
        features = F.normalize(features, dim=-1)
        for each in asked.labels:
            report(kind, each, asked.seeds, features, truth, names, words, scale)


def report(kind, each, seeds, features, truth, names, words, scale) -> None:
    """Print a line for a number of labels."""
    rows, gaps, chosen, start = {}, [], {}, time.perf_counter()
    for seed in range(seeds):
        labels = labelled(truth, each, seed)
        free = labels == UNLABELLED
        found = {}
        for method in ("auto", *METHODS):
            if method == "zero-shot" and words is None:
                continue
            wish = Wish(method, held_out=0.0)
            done = learn(features, labels, names, [""] * len(labels), words=words, scale=scale, wish=wish)
            right = (done.probabilities.argmax(1) == truth)[free]
            found[method] = 100 * float(right.double().mean())
            if method == "auto":
                chosen[done.candidate.method] = chosen.get(done.candidate.method, 0) + 1
        for method, accuracy in found.items():
            rows.setdefault(method, []).append(accuracy)
    means = {method: statistics.fmean(values) for method, values in rows.items()}
    best = max((value, method) for method, value in means.items() if method != "auto")
    gaps = [auto - max(rows[m][n] for m in rows if m != "auto") for n, auto in enumerate(rows["auto"])]
    line = ", ".join(f"{method} {value:.1f}" for method, value in means.items())
    print(
        f"{kind}, {each} of each: {line}; gap to {best[1]} {means['auto'] - best[0]:+.1f}, worst seed {min(gaps):+.1f}"
    )
    print(f"    chosen {chosen}, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
