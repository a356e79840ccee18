"""A process of several that train with the optimiser's memory shared out, for test_sharded: worker.py FOLDER.

FOLDER has the pictures in p, and in given a state that one process has broken off. Each process tells how much its
optimiser remembers, and the first one what came out.
"""

import json
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
from clip_vae_lora.tests.training.clip.test_run import made_of, towers  # noqa: E402
from clip_vae_lora.tests.training.memory.sharded import PLANS  # noqa: E402
from clip_vae_lora.training import loop  # noqa: E402
from clip_vae_lora.training.clip.course import ClipCourse  # noqa: E402
from clip_vae_lora.training.clip.run import ClipHooks, TrainedCLIP, train_clip  # noqa: E402
from clip_vae_lora.training.distributed import LostProcess, join_group, own_part  # noqa: E402
from clip_vae_lora.training.loop import Checkpoint  # noqa: E402
from clip_vae_lora.training.optimisers import make_optimiser  # noqa: E402

states: list[loop.TrainingState] = []


class Kept(loop.TrainingState):
    def __init__(self, *given):
        super().__init__(*given)
        states.append(self)


def _numbers(optimizer: torch.optim.Optimizer) -> int:
    """How many numbers the optimiser keeps beside single ones, such as the count of steps."""
    kept = [one for memory in own_part(optimizer).state.values() for one in memory.values()]
    return sum(one.numel() for one in kept if one.ndim)


def _of_equal_tensors() -> int:
    """How many it keeps of eight tensors of one size, after a step."""
    some = [torch.nn.Parameter(torch.ones(64, 64)) for _ in range(8)]
    optimizer = make_optimiser("AdamW", [{"params": some}], 0.1, (0.9, 0.99), is_sharded=True)
    for one in some:
        one.grad = torch.ones(64, 64)
    optimizer.step()
    return _numbers(optimizer)


def main(folder: Path) -> None:
    loop.TrainingState = Kept

    def train(plan: str, state: Checkpoint | None = None, last: int | None = None) -> TrainedCLIP:
        def on_step(done: int, total: int, loss: float) -> None:
            if done == last:
                raise KeyboardInterrupt

        hooks = ClipHooks(on_step, every=2)
        return train_clip(towers(), prepared(folder / "p"), PLANS[plan], hooks=hooks, checkpoint=state)

    with join_group(torch.device("cpu")) as group:
        told = {"equal": _of_equal_tensors()}
        for plan in PLANS:
            made = train(plan)
            told[plan] = _numbers(states[-1].optimizer)
            if group.first:
                write_tensors(folder / plan, made_of(made), {})
        made = train("AdamW", Checkpoint(folder / "given", resume=True))
        if group.first:
            write_tensors(folder / "resumed", made_of(made), {})
        (folder / f"{group.rank}.json").write_text(json.dumps(told | {"averages": len(states[0].average)}))
        try:
            train("AdamW", Checkpoint(folder / "broken"), 3 if group.first else None)
        except (KeyboardInterrupt, LostProcess):
            pass
        loss = ClipCourse.loss

        def vanishing(self, step, generator):
            if group.rank == 1 and step == 3:
                os._exit(9)
            return loss(self, step, generator)

        ClipCourse.loss = vanishing
        train("AdamW", Checkpoint(folder / "lost", every=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
