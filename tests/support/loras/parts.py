"""Small LoRAs for tests of files: a pair of factors, their comparison, and a PEFT file."""

import torch


def pair(out=6, rank=2, inner=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(out, rank, generator=g), torch.randn(rank, inner, generator=g)


def equal(a, b):
    parts = [(a.up, b.up), (a.down, b.down)] + ([] if a.mid is None else [(a.mid, b.mid)])
    return a.alpha == b.alpha and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in parts)


def peft_file(module="base_model.model.block.fc1"):
    up, down = pair()
    return {f"{module}.lora_B.weight": up, f"{module}.lora_A.weight": down}
