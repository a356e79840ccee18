"""A VAE as its file holds it: the encoder bit for bit as it came, the decoder rounded to a type."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..record.digest import digest_of
from .parts import BOTH, encoder_of, learns

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
AUTO = "auto"
DTYPES = (AUTO, *TYPES)


@dataclass(frozen=True, eq=False)
class Stored:
    """state: tensors by our networks' names, on the CPU. encoder_before, encoder_after: names by their bits for what
    decides the latents, as it came and as it is stored, whatever type holds the numbers.
    """

    state: dict[str, Tensor]
    encoder_before: str
    encoder_after: str

    @property
    def same_encoder(self) -> bool:
        """Whether the encoder has not changed by a bit."""
        return self.encoder_before == self.encoder_after


def stored_state(came: Mapping[str, Tensor], learned: Mapping[str, Tensor], part: str, dtype: str) -> Stored:
    """The tensors to write.

    Args:
        came: the VAE's own tensors as they were stored; of what did not learn, each is stored so again.
        learned: the tensors after the training, float32.
        dtype: of what learned; "auto": the shortest type of what came in which what did not learn keeps its numbers.
    """
    came = {name: tensor.detach().cpu() for name, tensor in came.items()}
    short = shortest([tensor for name, tensor in came.items() if learns(name, BOTH)])
    state = {}
    for name, tensor in came.items():
        if learns(name, part):
            state[name] = _rounded(learned[name].detach().cpu(), short if dtype == AUTO else TYPES[dtype])
        else:
            state[name] = _kept(tensor, short) if tensor.is_floating_point() else tensor
    state = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    return Stored(state, _named(came), _named(state))


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In that type, or as it is where that cannot hold its largest number."""
    short = tensor.to(dtype)
    return short if bool(short.isfinite().all()) else tensor


def _kept(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In that type where it holds every number, else as it is."""
    short = tensor.to(dtype)
    return short if torch.equal(short.to(tensor.dtype), tensor) else tensor


def shortest(tensors: Iterable[Tensor]) -> torch.dtype:
    """The shortest type that holds all numbers of these tensors exactly."""
    found = list(tensors)
    for dtype in (torch.float16, torch.bfloat16):
        if all(torch.equal(one.to(dtype).to(one.dtype), one) for one in found):
            return dtype
    return torch.float32


def _named(state: Mapping[str, Tensor]) -> str:
    """A name for the encoder's numbers."""
    return digest_of({name: one.float() if one.is_floating_point() else one for name, one in encoder_of(state).items()})
