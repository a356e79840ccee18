"""A process of a training that several do together, for test_together: worker.py STATE RESULT [STEP to vanish at]."""

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
from clip_vae_lora.nodes.host.alone.diffusion import trainee  # noqa: E402
from clip_vae_lora.tests.training.lora.test_run import _encode, _model, _pictures  # noqa: E402
from clip_vae_lora.training.distributed import current_group, join_group  # noqa: E402
from clip_vae_lora.training.loop import Checkpoint  # noqa: E402
from clip_vae_lora.training.lora.course import Course  # noqa: E402
from clip_vae_lora.training.lora.plan import LoRAPlan  # noqa: E402
from clip_vae_lora.training.lora.run import Hooks, train_lora  # noqa: E402

PLAN = LoRAPlan(steps=6, seed=3, lr=5e-3, rank=4, alpha=4, batch=3, accumulate=2, warm_up=1, keep=0.5, class_word="it")


def main(state: str, result: str, vanish: int | None) -> None:
    loss = Course.loss

    def vanishing(self, number, generator):
        if vanish is not None and current_group().rank == 1 and number == vanish * PLAN.accumulate:
            os._exit(9)
        return loss(self, number, generator)

    Course.loss = vanishing
    with join_group(torch.device("cpu")) as group, trainee(_model()) as ready:
        checkpoint = Checkpoint(Path(state), every=100, resume=True)
        made = train_lora(ready, _pictures(), _encode, PLAN, hooks=Hooks(every=3), checkpoint=checkpoint)
    if group.first:
        tensors = {
            f"{name}.{part}": getattr(one, part) for name, one in made.adapters.items() for part in ("up", "down")
        }
        write_tensors(result, {**tensors, "losses": torch.tensor(made.losses)}, {})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
