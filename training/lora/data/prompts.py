"""Prompts are encoded once for each text, and made ready once for each text and size."""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from ..trainee import Prompt, Trainee

Encode = Callable[[str], object]  # text -> conditioning
_MOST = 512  # kept of each kind, the longest unused leaving first


class Prompts:
    """A store of prepared prompts; `of` gives the prompt of a text for a latent of a size."""

    def __init__(self, trainee: Trainee, encode: Encode):
        self._trainee, self._encode = trainee, encode
        self._texts: OrderedDict[str, object] = OrderedDict()
        self._ready: OrderedDict[tuple[str, tuple[int, ...]], Prompt] = OrderedDict()

    def of(self, text: str, latent: Tensor) -> Prompt:
        """The prompt of a text for a latent [1, C, ...] in the model's space."""
        key = (text, tuple(latent.shape))
        if key not in self._ready:
            _keep(self._ready, key, self._trainee.prepare(self._conditioning(text), latent))
        self._ready.move_to_end(key)
        return self._ready[key]

    def _conditioning(self, text: str) -> object:
        if text not in self._texts:
            _keep(self._texts, text, self._encode(text))
        self._texts.move_to_end(text)
        return self._texts[text]


def _keep(store: OrderedDict, key: object, value: object) -> None:
    store[key] = value
    if len(store) > _MOST:
        store.popitem(last=False)
