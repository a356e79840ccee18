"""The two encoders of a CLIP as training uses them: rows of ids and squares of pixels -> features of length 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...clip_core.config import CLIPConfig, VisionConfig
from ...clip_core.features.texts import model_rows
from ...clip_core.features.whole_texts import WholeTexts
from ...clip_core.networks.clip import CLIP, initialise_
from ...clip_core.networks.siglip import network_of
from ...clip_core.tokenizer import END, Tokenizer
from ..device import products_in, sent
from ..loop import trainable
from ..recipes.clip import grid_waves
from ..scores import normalise

Ids = tuple[int, ...]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Towers:
    """A CLIP with its tokenizer, and the precision of its products."""

    model: CLIP
    tokenizer: Tokenizer | WholeTexts
    precision: torch.dtype = torch.float32

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.model.logit_scale.device

    @property
    def size_px(self) -> int:
        """The side of the squares that it looks at."""
        return self.model.config.vision.image_px

    def rows(self, texts: Sequence[str]) -> tuple[list[Ids], tuple[int, ...]]:
        """The ids of each text, and how many tokens were cut from it.

        Raises:
            ValueError: a SigLIP without its vocabulary.
        """
        return model_rows(self.model, self.tokenizer, texts, self.model.config.text.context)

    def images(self, squares: Tensor) -> Tensor:
        """Encode pictures in 0..1. [n, 3, S, S] -> float32 [n, E], rows of length 1"""
        pixels = normalise(sent(squares, self.device), self.model)
        with products_in(self.precision, self.device):
            found = self.model.image_features(pixels)
        return functional.normalize(found.float(), dim=-1)

    def texts(self, rows: Sequence[Ids]) -> Tensor:
        """Encode rows of ids. -> float32 [n, E], rows of length 1"""
        ids = sent(padded(rows), self.device)
        with products_in(self.precision, self.device):
            found = self.model.text_features(ids)
        return functional.normalize(found.float(), dim=-1)


def padded(rows: Sequence[Ids]) -> Tensor:
    """The rows as one table; what stands behind an end token has no influence on it. -> int64 [n, longest]"""
    table = torch.full((len(rows), max(map(len, rows))), END, dtype=torch.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = torch.tensor(row)
    return table


@contextmanager
def called_by_layers(model: CLIP) -> Iterator[None]:
    """Have the encoders called layer by layer while this is open, without gradients as with them.

    Without gradients a vision transformer would take a shorter way, whose features differ in their last bits; what a
    loss says of features would then not be quite that of those that it goes back through. Hooked layers are called.
    """
    hooks = [part.register_forward_hook(_nothing) for part in model.vision_model.children()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _nothing(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None: ...


def new_towers(config: CLIPConfig, seed: int, device: torch.device, precision: str) -> Towers:
    """An untrained CLIP whose patches know where they are: see `grid_waves`. The caller's random state is left alone.

    Raises:
        ValueError: a size that fresh weights are not made for.
    """
    with trainable(), torch.random.fork_rng(devices=[]):
        model = initialise_(CLIP(config), seed)
        vision = config.vision
        if isinstance(vision, VisionConfig):
            with torch.no_grad():
                positions = model.get_parameter("vision_model.embeddings.position_embedding.weight")
                waves = grid_waves(vision.grid, vision.width)
                positions[1:, : waves.shape[1]] = waves * vision.width**-0.5
        return Towers(model.to(device).eval(), Tokenizer(), _DTYPES[precision])


def copied_towers(
    model: CLIP,
    tokenizer: Tokenizer | WholeTexts,
    device: torch.device | Callable[[], torch.device],
    precision: str,
) -> Towers:
    """A copy of a CLIP in float32, made to be trained; the CLIP itself is left alone.

    device: where it goes, or a function that makes room there and tells, once the weights have been read.
    """
    with trainable():
        state = {name: one.detach().to("cpu", torch.float32, copy=True) for name, one in model.state_dict().items()}
        place = device() if callable(device) else device
        copy = network_of(model.config, device=place, dtype=torch.float32)
        copy.load_state_dict(state)
        return Towers(copy.eval(), tokenizer, _DTYPES[precision])
