"""Between a CLIP as it was and as it was trained: the curve from one to the other, and how far each layer has moved.

WiSE-FT (Wortsman et al., arXiv 2109.01903): weights (1 - a) * before + a * after often do better than either, on new
pictures and on old ones. For a LoRA, a is its strength.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...clip_core.networks.clip import CLIP
from ...clip_core.networks.text import first_end
from ...lora.kinds.adapters import Adapter
from .course import ClipCourse
from .judging import Measured
from .towers import Ids, Towers, padded

SHARES = tuple(n / 10 for n in range(11))
READ_BY = {  # a hidden layer -> the models that read it there
    "last": "Stable Diffusion 1, as it was trained, and the pooled text of SD3 and Flux",
    "last but one": "SDXL, SD3, and Stable Diffusion 1 with clip skip 2",
}
_LAYERS = {"last": (None, True), "last but one": (-2, False)}  # layer, and whether the final norm is put on it
_MOST_TEXTS = 64


@dataclass(frozen=True)
class Sweep:
    """The validation at shares of the way from before (0) to after (1), and the place of the best."""

    shares: tuple[float, ...]
    measured: tuple[Measured, ...]
    best: int

    def told(self) -> dict[str, object]:
        """The same for a report."""
        points = [{"share": share, **found.told()} for share, found in zip(self.shares, self.measured)]
        return {"best": self.shares[self.best], "points": points}


@dataclass(frozen=True)
class Drift:
    """How far a hidden layer of the text encoder has moved: cosines before and after, over the tokens of texts."""

    layer: str
    mean: float
    least: float
    tokens: int

    def told(self) -> dict[str, object]:
        """The same for a report."""
        return {
            "layer": self.layer,
            "read_by": READ_BY[self.layer],
            "cosine_mean": self.mean,
            "cosine_least": self.least,
            "tokens": self.tokens,
        }


def changed_weights(model: CLIP, adapters: Mapping[str, Adapter]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the layers that adapters stand beside, without and with them, on the CPU."""
    before = {f"{name}.weight": model.get_parameter(f"{name}.weight").detach().cpu().clone() for name in adapters}
    after = {}
    for name, adapter in adapters.items():
        weight = before[f"{name}.weight"]
        after[f"{name}.weight"] = weight + adapter.delta(weight).to(weight)
    return before, after


def put_(model: CLIP, before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> None:
    """Give the model the weights at a share of the way: at 0 and 1 the very bits of before and after."""
    with torch.no_grad():
        for name, first in before.items():
            last = after[name]
            value = first if share == 0 else last if share == 1 else first.lerp(last, share)
            model.get_parameter(name).copy_(value)


@contextmanager
def held_at_the_end(
    model: CLIP, before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float
) -> Iterator[None]:
    """Leave the model at a share of the way, whatever was tried meanwhile."""
    try:
        yield
    finally:
        put_(model, before, after, share)


def sweep(course: ClipCourse, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Sweep:
    """Judge the model along the way. The best has the most right choices, else the most that is found, else the least
    loss; of equals the nearest to what was trained. The model is left as trained.
    """
    model, found = course.towers.model, []
    with held_at_the_end(model, before, after, 1.0):
        for share in SHARES:
            put_(model, before, after, share)
            found.append(course.measure(round(100 * share)))
    return Sweep(SHARES, tuple(found), max(range(len(found)), key=lambda place: (_worth(found[place]), SHARES[place])))


def _worth(found: Measured) -> tuple[float, float]:
    if found.labelled:
        return found.right, 0.0
    return (sum(found.found), -found.loss) if found.found else (0.0, -found.loss)


def drift(
    towers: Towers, texts: Sequence[str], before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> list[Drift]:
    """How far the hidden states that generators read have moved on these texts. The model is left as trained."""
    rows = towers.rows(list(texts)[:_MOST_TEXTS])[0]
    with held_at_the_end(towers.model, before, after, 1.0), torch.no_grad():
        states = []
        for share in (0.0, 1.0):
            put_(towers.model, before, after, share)
            states.append({layer: _hidden(towers, rows, layer) for layer in _LAYERS})
    found = []
    for layer in _LAYERS:
        cosines = functional.cosine_similarity(states[0][layer].double(), states[1][layer].double(), dim=-1)
        found.append(Drift(layer, float(cosines.mean()), float(cosines.min()), len(cosines)))
    return found


def _hidden(towers: Towers, rows: Sequence[Ids], layer: str) -> Tensor:
    """The states of the tokens up to each text's end. -> [tokens, C] on the CPU"""
    ids = padded(rows).to(towers.device)
    number, norm = _LAYERS[layer]
    hidden = towers.model.encode_text(ids, number, norm).hidden
    seen = torch.arange(ids.shape[1], device=ids.device) <= first_end(ids)[:, None]
    return hidden[seen].float().cpu()
