"""Prompts are encoded once for each text, and made ready once for each text and size; by one that learns, anew each
time and with gradients.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from ....lora.weights.inject import silenced
from ...state import TrainingError
from ..trainee import Prompt, Trainee

Encode = Callable[[str], object]  # text -> conditioning
_MOST = 512  # kept of each kind, the longest unused leaving first
NO_TEXT_GRADIENT = (
    "no gradient comes through this CLIP, whose layers compute in a way that cannot be differentiated: load it in "
    "fp16, bf16 or fp32, without compiled or fused kernels, or set text_encoder_rate to 0"
)


class Prompts:
    """The prompts of texts for latents [1, C, ...] in the model's space."""

    def __init__(self, trainee: Trainee, encode: Encode):
        self._trainee, self._encode = trainee, encode
        self._texts: OrderedDict[str, object] = OrderedDict()
        self._ready: OrderedDict[tuple[str, tuple[int, ...]], Prompt] = OrderedDict()

    def of(self, texts: Sequence[str], latents: Sequence[Tensor]) -> list[Prompt]:
        """The prompt of each text for its latent, as the text encoder says it now."""
        if self._trainee.text is None:
            return self.of_base(texts, latents)
        said = {text: self._encode(text) for text in dict.fromkeys(texts)}
        if torch.is_grad_enabled() and not all(map(_has_gradients, said.values())):
            raise TrainingError(NO_TEXT_GRADIENT)
        return [self._trainee.prepare(said[text], latent) for text, latent in zip(texts, latents)]

    def of_base(self, texts: Sequence[str], latents: Sequence[Tensor]) -> list[Prompt]:
        """The same, as it was said before anything was learned."""
        return [self._kept(text, latent) for text, latent in zip(texts, latents)]

    def _kept(self, text: str, latent: Tensor) -> Prompt:
        key = (text, tuple(latent.shape))
        if key not in self._ready:
            _keep(self._ready, key, self._trainee.prepare(self._conditioning(text), latent))
        self._ready.move_to_end(key)
        return self._ready[key]

    def _conditioning(self, text: str) -> object:
        if text not in self._texts:
            _keep(self._texts, text, self._said_by_the_base(text))
        self._texts.move_to_end(text)
        return self._texts[text]

    def _said_by_the_base(self, text: str) -> object:
        learning = self._trainee.text
        with nullcontext() if learning is None else silenced(learning.network), torch.no_grad():
            return self._encode(text)


def _has_gradients(conditioning: object) -> bool:
    """Whether a gradient comes through one of the tensors of a conditioning, however deep they lie."""
    if isinstance(conditioning, Tensor):
        return conditioning.requires_grad
    if isinstance(conditioning, dict):
        return any(map(_has_gradients, conditioning.values()))
    return isinstance(conditioning, list | tuple) and any(map(_has_gradients, conditioning))


def _keep(store: OrderedDict, key: object, value: object) -> None:
    store[key] = value
    if len(store) > _MOST:
        store.popitem(last=False)
