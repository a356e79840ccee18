"""A classifier without training: each label is put into a sentence, and the sentence nearest to the picture wins.

Source: Radford et al. 2021 (arXiv 2103.00020), section 3.1.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import CLIP, similarity
from .preprocess import preprocess
from .tokenizer import Tokenizer

_PLACE = re.compile(r"\{(?:label)?\}")


@dataclass(frozen=True)
class Classification:
    labels: tuple[str, ...]  # N
    probabilities: Tensor  # [B, N], rows sum to 1
    cosine: Tensor  # [B, N], -1..1
    cut: tuple[int, ...]  # N, tokens that each label's sentence had too many
    notes: tuple[str, ...]  # what was lost, in sentences

    def best(self, row: int = 0) -> str:
        """The most probable label of a picture."""
        return self.labels[int(self.probabilities[row].argmax())]

    def ranked(self, row: int = 0) -> list[tuple[str, float]]:
        """A picture's labels with their probabilities, the best first."""
        order = self.probabilities[row].argsort(descending=True, stable=True).tolist()
        return [(self.labels[n], float(self.probabilities[row, n])) for n in order]


def label_list(text: str) -> tuple[list[str], list[str]]:
    """The labels in a text, one a line, or separated by commas where there is one line only; and notes on what was
    left out.

    Raises:
        ValueError: there are none.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        lines = [label.strip() for label in lines[0].split(",") if label.strip()]
    if not lines:
        raise ValueError("there are no labels; write one a line, or several in one line with commas between them")
    labels = list(dict.fromkeys(lines))
    twice = [label for label in labels if lines.count(label) > 1]
    return labels, [f"named more than once, counted once: {', '.join(twice)}"] if twice else []


def fill(template: str, label: str) -> str:
    """The sentence for a label: the template with the label at `{}` or `{label}`.

    Raises:
        ValueError: the template has no place for it.
    """
    if not _PLACE.search(template):
        raise ValueError(f"the template {template!r} has no place for the label; put {{label}} where it goes")
    return _PLACE.sub(lambda _: label, template)


def picture_features(
    model: CLIP,
    image: Tensor,
    *,
    device: torch.device | str | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """[B, H, W, 3] in 0..1, of any size -> [B, E] float32 on the CPU, rows of length 1"""
    vision, rows = model.config.vision, []
    with torch.no_grad():
        for done, picture in enumerate(image.split(1), 1):
            pixels = preprocess(picture, vision.image_px, model.config.mean, model.config.std)
            rows.append(model.image_features(pixels.to(device, model.activation_dtype)).float().cpu())
            if on_step is not None:
                on_step(done, len(image))
    return F.normalize(torch.cat(rows), dim=-1)


def classify(
    model: CLIP,
    tokenizer: Tokenizer,
    image: Tensor,
    labels: Sequence[str],
    template: str,
    *,
    device: torch.device | str | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Classification:
    """How the labels share each picture. `on_step(done, total)` is told after each picture, and may raise to stop.

    `image` is [B, H, W, 3] in 0..1, of any size; results are float32 on the CPU.
    """
    if not labels:
        raise ValueError("there are no labels; give at least one")
    device = device or model.text_projection.weight.device
    ids, cut = tokenizer.batch([fill(template, label) for label in labels], context=model.config.text.context)
    vision, rows, cosines = model.config.vision, [], []
    with torch.no_grad():
        texts = model.text_features(ids.to(device))
        for done, picture in enumerate(image.split(1), 1):
            pixels = preprocess(picture, vision.image_px, model.config.mean, model.config.std)
            seen = model.image_features(pixels.to(device, model.activation_dtype))
            rows.append(model.probabilities(seen, texts).float().cpu())
            cosines.append(similarity(seen, texts).float().cpu())
            if on_step is not None:
                on_step(done, len(image))
    notes = tuple(f"{label!r}: {n} tokens too long, the end was cut" for label, n in zip(labels, cut) if n)
    return Classification(tuple(labels), torch.cat(rows), torch.cat(cosines), tuple(cut), notes)
