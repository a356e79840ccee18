"""Two models side by side: which weights both have, and what cannot be compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kinds.adapters import LoRAError
from ...models.families import family_of_keys

_WEIGHT, _EMBEDDINGS = ".weight", ("_embedding.weight", "shared.weight", "embed_tokens.weight", "emb_in.weight")
_NO_SUCH = "{} has no such weight"


@dataclass(frozen=True, eq=False)
class Model:
    """A model whose weights are read one at a time.

    name: for sentences. shapes: key, as ComfyUI has it -> shape. read: key -> the weight, of any floating type.
    stored: key -> the type in which the weight is kept, whose rounding is in it; None: that of what `read` gives.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    stored: Callable[[str], torch.dtype] | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models side by side.

    weights: keys of matrices and kernels in both; vectors: keys of norms, biases and embeddings in both. unfit: key ->
    why it cannot be compared.
    """

    base: Model
    tuned: Model
    weights: tuple[str, ...]
    vectors: tuple[str, ...]
    unfit: dict[str, str]


def pair(base: Model, tuned: Model) -> Pair:
    """Pair lays two models side by side.

    Raises:
        LoRAError: they are of different families, have no weight in common, or less than half of them fits.
    """
    families = [family_of_keys(model.shapes) for model in (base, tuned)]
    if all(families) and families[0] != families[1]:
        raise LoRAError(
            f"{base.name} is {families[0]} and {tuned.name} is {families[1]}: the difference of two models of one "
            "family was expected; choose the model that the tuned one was made from"
        )
    unfit = {key: _NO_SUCH.format(tuned.name) for key in base.shapes if key not in tuned.shapes}
    unfit |= {key: _NO_SUCH.format(base.name) for key in tuned.shapes if key not in base.shapes}
    common = [key for key in base.shapes if key in tuned.shapes]
    for key in common:
        one, two = base.shapes[key], tuned.shapes[key]
        if tuple(one) != tuple(two):
            unfit[key] = f"its shape is {list(one)} in {base.name} and {list(two)} in {tuned.name}"
    fitting = [key for key in common if key not in unfit]
    if not common:
        raise LoRAError(
            f"{base.name} and {tuned.name} have no weight in common: the difference of two models of one family was "
            "expected"
        )
    if 2 * len(fitting) < len(common):
        odd = next(key for key in common if key in unfit)
        raise LoRAError(
            f"{base.name} and {tuned.name} are models of different shapes: of {len(common)} weights with the same "
            f"names {len(common) - len(fitting)} differ in shape; {odd}: {unfit[odd]}"
        )
    weights = [key for key in fitting if _is_layer(key, base.shapes[key])]
    return Pair(base, tuned, tuple(weights), tuple(key for key in fitting if key not in set(weights)), unfit)


def _is_layer(key: str, shape: tuple[int, ...]) -> bool:
    """Whether the weight is that of a linear layer or of a convolution."""
    return key.endswith(_WEIGHT) and len(shape) >= 2 and not key.endswith(_EMBEDDINGS) and min(shape[:2]) > 1
