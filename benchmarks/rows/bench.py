"""A bench for rows of `benchmarks/device.py`: a card with a clock, or a pretended card and its counts."""

import importlib
import os
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from clip_vae_lora.nodes.host.alone import vae as standalone_vae
from clip_vae_lora.tests.support.cards.cuda import cuda_that_answers

WHOLE, LITTLE = 22_000_000_000, 3_000_000_000  # bytes free


class Bench:
    """Where a row is measured: a card with a clock, or the one that is not there and its counts."""

    def __init__(self, device: torch.device, count, rounds: int):
        self.device, self.count, self.rounds = device, count, rounds

    def draw(self, *shape: int, dtype: torch.dtype = torch.float32, on: str = "cpu") -> torch.Tensor:
        if self.count is not None:
            return torch.empty(shape, dtype=dtype, device=on)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(on, dtype)

    def measured(self, contenders: dict) -> dict[str, dict]:
        """name: (): what it does, tensors on the CPU in and out -> name: numbers. In inference mode, as nodes run."""
        with torch.inference_mode():
            return self._measured(contenders)

    def _measured(self, contenders: dict) -> dict[str, dict]:
        if self.count is not None:
            return {name: self._counted(work) for name, work in contenders.items()}
        seconds = {name: [] for name in contenders}
        for _ in range(self.rounds + 1):  # the first is for warming up
            for name, work in contenders.items():
                self._synchronise()
                begin = time.perf_counter()
                work()
                self._synchronise()
                seconds[name].append(time.perf_counter() - begin)
        return {name: {"seconds": statistics.median(all_of[1:])} for name, all_of in seconds.items()}

    def _counted(self, work) -> dict:
        self.count.reset()
        try:
            work()
        except DynamicOutputShapeException as error:
            return {"waits_for_a_size": str(error)}  # a card would wait here; without numbers nobody can go on
        count = self.count
        return {
            "kernels": count.kernels,
            "bus_mb": round(count.moved_bytes / 1e6, 2),
            "moves": count.moves,
            "waits": len(count.waits),
        }

    def _synchronise(self) -> None:
        if self.device.type in ("cuda", "xpu", "mps"):
            getattr(torch, self.device.type).synchronize()


@contextmanager
def free(bench: Bench, free_bytes: int):
    """So much memory is free on the card that is not there; a real one has what it has, held down to that."""
    with ExitStack() as stack:
        if bench.count is not None:
            stack.enter_context(patch.multiple(torch.cuda, **cuda_that_answers(free_bytes)))
        elif bench.device.type == "cuda":
            stack.enter_context(patch.object(torch.cuda, "mem_get_info", lambda device=None: (free_bytes, free_bytes)))
        stack.enter_context(patch.object(standalone_vae, "device", lambda: bench.device))
        yield


def comfyui() -> Path | None:
    """ComfyUI's folder, importable; None where none is named."""
    if not (path := os.environ.get("COMFYUI_PATH")):
        return None
    if path not in sys.path:
        sys.path.insert(0, path)
        before, sys.argv = sys.argv, ["main.py", *([] if torch.cuda.is_available() else ["--cpu"])]
        import comfy.options

        comfy.options.enable_args_parsing()
        importlib.import_module("comfy.model_management")  # reads the arguments

        sys.argv = before
    return Path(path)
