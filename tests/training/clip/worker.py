"""A process of several that compute one batch's gradients, for test_cached: worker.py RESULT."""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "headless"))
import checkout  # noqa: E402

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.files.tensors import write_tensors  # noqa: E402
from clip_vae_lora.tests.training.clip.tiny_batch import gradients, towers  # noqa: E402
from clip_vae_lora.training.clip.objective import LOSSES  # noqa: E402
from clip_vae_lora.training.distributed import join_group  # noqa: E402


def main(result: str) -> None:
    with join_group(torch.device("cpu")) as group:
        found = {f"{loss}/{name}": one for loss in LOSSES for name, one in gradients(towers(), loss, 3).items()}
    if group.first:
        write_tensors(result, found, {})


if __name__ == "__main__":
    main(sys.argv[1])
