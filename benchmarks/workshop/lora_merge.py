"""Merging beside a dense SVD in fp64, in one run, as a ratio: `python benchmarks/workshop/lora_merge.py [--side 5120]`.

Five LoRAs of rank 32 of one square weight are merged to rank 64: the exact sum in factors, two QR decompositions and
the SVD of a core, against the sum of the dense changes and its whole SVD. The singular values are compared, too.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "headless"))
import checkout

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.lora.kinds.adapters import LoRA  # noqa: E402
from clip_vae_lora.lora.workshop.algebra import add, spectrum_of  # noqa: E402
from clip_vae_lora.lora.workshop.thin import thin_of  # noqa: E402

STRENGTHS = (0.7, -0.4, 1.0, 0.5, 0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=5120)
    side = parser.parse_args().side
    random = torch.Generator().manual_seed(0)
    loras = [
        LoRA(torch.randn(side, 32, generator=random), torch.randn(32, side, generator=random), 16.0) for _ in STRENGTHS
    ]
    begin = time.perf_counter()
    found = spectrum_of(add([thin_of(lora) for lora in loras], STRENGTHS))
    found.cut(64)
    ours = time.perf_counter() - begin
    begin = time.perf_counter()
    total = torch.zeros(side, side, dtype=torch.float64)
    for lora, strength in zip(loras, STRENGTHS):
        total += lora.up.double() @ lora.down.double() * (lora.scale * strength)
    values = torch.linalg.svd(total, full_matrices=False).S
    theirs = time.perf_counter() - begin
    apart = ((found.s[:64] - values[:64]).abs() / values[:64]).max().item()
    print(f"{side}^2, five of rank 32 to 64: ours {ours:.2f} s, dense {theirs:.1f} s, {theirs / ours:.0f} x faster;")
    print(f"singular values alike to {apart:.1e} of each")


if __name__ == "__main__":
    main()
