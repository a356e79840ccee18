"""A VAE at work: whole or in exact tiles, as memory allows, again with smaller tiles when it runs out all the same, and
again in float32 when numbers overflow; and what of that happened, in sentences.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from ...vae_core import tiled
from ...vae_core.autoencoder import Posterior
from ...vae_core.layers import Attention, Down, ResidualBlock, Up
from ...vae_core.memory import BudgetError, Plan, largest_plan, smaller_plans, untiled_plan
from ...vae_core.tiny import Block
from .vae_network import KLNetwork, VAENetwork

_SPARE = 0.9  # of the free memory; the rest is for what the host does meanwhile
_BLOCKS = (ResidualBlock, Attention, Up, Down, Block)  # each is called once a picture
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass(frozen=True)
class Tiling:
    """auto: tiles as large as is worth having, if they fit the free memory; off: none; budget: the largest that
    `budget_mb` allows.
    """

    mode: str = "auto"
    budget_mb: int = 4096


@dataclass(frozen=True)
class Room:
    """Where a network computes and where results wait, and how much memory is free there (None: not known)."""

    device: torch.device
    host: torch.device
    free_bytes: int | None

    @property
    def apart(self) -> bool:
        return self.device.type != self.host.type


@dataclass(frozen=True)
class Worked:
    """A result, the plan it was made with as one line, and what went differently than planned."""

    result: Tensor | Posterior
    plan: str
    notes: tuple[str, ...] = ()


def decode(
    network: VAENetwork, latent: Tensor, tiling: Tiling, room: Room, on_step: Callable[[int, int], None],
    in_float32: Callable[[], VAENetwork],
) -> Worked:  # fmt: skip
    """Raw latent [B, C, h, w] of the network's type -> pixels [B, 3, H, W], nominally -1..1, on `room.host`.

    Raises:
        BudgetError: not even the smallest plan fits.
    """

    def run(net: VAENetwork, z: Tensor, plan: Plan) -> Tensor:
        if plan.untiled:
            with _told(net, "decode", len(z), on_step):
                return torch.cat([net.decode(one.to(room.device)).to(room.host) for one in z.split(1)])
        return tiled.decode(net, z.to(room.host), plan.tile, device=room.device, host=room.host, on_step=on_step)

    return _worked("decode", network, latent, (1, *latent.shape[1:]), run, tiling, room, in_float32)


def encode(
    network: VAENetwork, pixels: Tensor, tiling: Tiling, room: Room, on_step: Callable[[int, int], None],
    in_float32: Callable[[], VAENetwork],
) -> Worked:  # fmt: skip
    """Pixels [B, 3, H, W] in -1..1 in whole cells -> Posterior, or of a tiny autoencoder the latent, on `room.host`."""

    def run(net: VAENetwork, x: Tensor, plan: Plan) -> Tensor | Posterior:
        if not plan.untiled:
            return tiled.encode(net, x.to(room.host), plan.tile, device=room.device, host=room.host, on_step=on_step)
        network_encode = net.posterior if isinstance(net, KLNetwork) else net.encode
        with _told(net, "encode", len(x), on_step):
            return _joined([_moved(network_encode(one.to(room.device)), room.host) for one in x.split(1)])

    factor = network.config.factor
    cells = (1, network.config.latent, pixels.shape[2] // factor, pixels.shape[3] // factor)
    return _worked("encode", network, pixels, cells, run, tiling, room, in_float32)


@contextmanager
def _told(net: VAENetwork, way: str, pictures: int, on_step: Callable[[int, int], None]) -> Iterator[None]:
    """While this lasts, `on_step` hears of each block that is through, and can stop the work there."""
    halves = {"decode": ("decoder", "taesd_decoder"), "encode": ("encoder", "taesd_encoder")}[way]
    there = [half for name in halves if (half := getattr(net, name, None)) is not None]
    blocks = [part for half in there for part in half.modules() if isinstance(part, _BLOCKS)]
    done = count(1)
    hooks = [
        block.register_forward_hook(lambda *_: on_step(next(done), pictures * len(blocks))) for block in blocks
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _joined(found: list[Tensor | Posterior]) -> Tensor | Posterior:
    if isinstance(found[0], Posterior):
        return Posterior(torch.cat([each.mean for each in found]), torch.cat([each.logvar for each in found]))
    return torch.cat(found)


def _worked(way: str, network, values: Tensor, cells, run, tiling: Tiling, room: Room, in_float32) -> Worked:
    found, plan, notes = _run(way, network, values, cells, run, tiling, room)
    if values.dtype != torch.float32 and not _finite(found) and values.isfinite().all():
        short = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(values.dtype, str(values.dtype))
        notes.append(f"the VAE overflowed in {short}: done again in fp32 (load it with dtype fp32 for that)")
        del found
        found, plan, more = _run(way, in_float32(), values.float(), cells, run, tiling, room)
        notes += more
    return Worked(found, str(plan), tuple(notes))


def _run(way: str, network, values: Tensor, cells, run, tiling: Tiling, room: Room) -> tuple:
    """The result, the plan it was made with, and notes; a smaller plan where memory runs out."""
    width = values.element_size()
    first = _first_plan(way, network, cells, width, tiling, room)
    later = smaller_plans(network.config, cells, first, width, way=way)
    notes, plan = [], first
    while True:
        with torch.inference_mode():
            found = _unless_out_of_memory(run, network, values, plan)
        if found is not None:
            return found, plan, notes
        free_up(room.device)
        smaller = None if tiling.mode == "off" and plan.untiled else next(later, None)
        if smaller is None:
            raise BudgetError(
                f"memory ran out even with the plan {plan}; free memory, set tiling to auto, or use a smaller picture"
            )
        notes.append(f"memory ran out with the plan {plan}: done with {smaller}")
        plan = smaller


def _first_plan(way: str, network, cells, width: int, tiling: Tiling, room: Room) -> Plan:
    def fitting(budget_bytes: int | None) -> Plan:
        return largest_plan(network.config, cells, budget_bytes, width, way=way, apart=room.apart)

    if tiling.mode == "off":
        return untiled_plan(network.config, cells, width, way=way)
    if tiling.mode == "budget":
        return fitting(tiling.budget_mb * 1_000_000)
    lean = fitting(None)
    needs = lean.device_bytes if room.apart else lean.needs_bytes
    if room.free_bytes is None or needs <= room.free_bytes * _SPARE:
        return lean
    return fitting(round(room.free_bytes * _SPARE))


def _unless_out_of_memory(run, network, values: Tensor, plan: Plan):
    """None when memory ran out; what holds the memory of the failed try is gone when this returns."""
    try:
        return run(network, values, plan)
    except torch.OutOfMemoryError:
        return None
    except RuntimeError as error:  # what torch raises for the CPU
        if not any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise
        return None


def free_up(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _moved(found: Tensor | Posterior, device: torch.device) -> Tensor | Posterior:
    if isinstance(found, Posterior):
        return Posterior(found.mean.to(device), found.logvar.to(device))
    return found.to(device)


def _finite(found: Tensor | Posterior) -> bool:
    return bool((found.mean if isinstance(found, Posterior) else found).isfinite().all())


def free_memory_bytes() -> int | None:
    """The computer's own memory that is free for the asking; None where the system does not say."""
    table = Path("/proc/meminfo")
    if table.is_file():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
