"""A process of a training that several do together, for test_together: together.py STATE RESULT PICTURES [STEP]."""

import os
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "headless"))
import checkout  # noqa: E402

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.files.tensors import write_tensors  # noqa: E402
from clip_vae_lora.tests.training.clip.pictures import prepared  # noqa: E402
from clip_vae_lora.tests.training.clip.test_run import FULL, made_of, towers  # noqa: E402
from clip_vae_lora.training.clip.course import ClipCourse  # noqa: E402
from clip_vae_lora.training.clip.run import ClipHooks, train_clip  # noqa: E402
from clip_vae_lora.training.distributed import current_group, join_group  # noqa: E402
from clip_vae_lora.training.loop import Checkpoint  # noqa: E402


def main(state: str, result: str, pictures: str, vanish: int | None) -> None:
    loss = ClipCourse.loss

    def vanishing(self, step, generator):
        if vanish is not None and current_group().rank == 1 and step == vanish:
            os._exit(9)
        return loss(self, step, generator)

    ClipCourse.loss = vanishing
    with join_group(torch.device("cpu")) as group:
        checkpoint = Checkpoint(Path(state), every=100, resume=True)
        made = train_clip(towers(), prepared(Path(pictures)), FULL, hooks=ClipHooks(every=3), checkpoint=checkpoint)
    if group.first:
        write_tensors(result, made_of(made), {})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else None)
