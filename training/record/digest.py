"""Names for tensors by their bits: equal ones have the same name, and nobody finds others that have it."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def digest_of(tensors: Mapping[str, Tensor] | Iterable[Tensor]) -> str:
    """The SHA-256 of tensors: names, types, shapes and bits, by name or as they come. -> 64 letters"""
    named = sorted(tensors.items()) if isinstance(tensors, Mapping) else [("", one) for one in tensors]
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()
