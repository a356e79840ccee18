"""Which model made an index, told from its weights, whatever type they were loaded in and wherever they lie.

A fingerprint is a digest of what is exact (sizes, preprocessing, LoRAs) and a sample of the weights without LoRAs. Two
samples are of one model if each number of one and its partner can come from the same number by rounding: to bf16, to
fp16 or not at all. No rounding of a sample gives one key to all of them, as a number rounded to fp16 first can come out
on the other side of a bf16 step.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

_SAMPLES = 8  # of each tensor
_RELATIVE = 2.0**-7  # bf16 rounds by 2**-8 of a number at most, fp16 by 2**-11
_ABSOLUTE = 2.0**-24  # the smallest step of fp16; numbers near 0 are rounded to it


def fingerprint(state: Mapping[str, Tensor], facts: str) -> str:
    """The fingerprint of a model with these weights; `facts` is what else is to be the same."""
    digest = hashlib.sha256(facts.encode())
    samples: dict[torch.device, dict[str, Tensor]] = {}
    for name in sorted(state):
        tensor = state[name].detach()
        digest.update(f"{name}{list(tensor.shape)}".encode())
        flat = tensor.reshape(-1)
        chosen = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
        samples.setdefault(tensor.device, {})[name] = chosen.float()
    fetched: dict[str, Tensor] = {}
    for some in samples.values():  # one move from each device, of which there are one or two
        parts = torch.cat(list(some.values())).cpu().split([len(part) for part in some.values()])
        fetched |= dict(zip(some, parts))
    values = torch.cat([fetched[name] for name in sorted(fetched)]) if fetched else torch.empty(0)
    return f"{digest.hexdigest()[:32]}:{base64.b64encode(values.numpy().tobytes()).decode()}"


def is_same(one: str, other: str) -> bool:
    """Whether two fingerprints are of one model. One that is empty or cannot be read is nobody's."""
    (digest, values), (other_digest, others) = _parts(one), _parts(other)
    if not digest or digest != other_digest or values.shape != others.shape:
        return False
    room = _RELATIVE * torch.maximum(values.abs(), others.abs()) + _ABSOLUTE
    return bool(((values - others).abs() <= room).logical_or(values == others).all())


def _parts(text: str) -> tuple[str, Tensor]:
    digest, _, numbers = text.partition(":")
    try:
        content = bytearray(base64.b64decode(numbers, validate=True))
    except ValueError:
        return "", torch.empty(0)
    if not content or len(content) % 4:
        return "", torch.empty(0)
    return digest, torch.frombuffer(content, dtype=torch.float32)
