"""A VAE at work: at once or in exact tiles, as memory allows; what happened is told in sentences.

A plan that runs out of memory is followed by a smaller one, numbers that overflow in half precision by a second run in
float32. The words of errors, and the memory that is free, are the host's to tell: they come with the `Room`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from ..posterior import Encoding, joined, mean_of
from . import tiled
from .network import VAENetwork
from .plans import BudgetError, Plan
from .room import Room, Tiling, plans_for
from .sweeps import OnStep

_DOING = {"decode": "decoding", "encode": "encoding"}


@dataclass(frozen=True)
class Work:
    """One call: what to compute, how it may be cut, and where.

    in_float32: makes the network for float32, wanted only when numbers overflow.
    """

    way: str  # "decode" or "encode"
    network: VAENetwork
    values: Tensor  # [B, C, h, w] latents or [B, 3, H, W] pixels, or videos, in the type that is computed in
    tiling: Tiling
    room: Room
    on_step: OnStep
    in_float32: Callable[[], VAENetwork]

    def plans(self) -> Iterator[Plan]:
        """The plan to begin with, then those to try when memory runs out."""
        config, cells = self.network.sized(self.network.config, self.way, self.values.shape)
        return plans_for(self.way, config, cells, self.values.element_size(), self.tiling, self.room)

    def run(self, plan: Plan) -> Encoding:
        """The result by that plan, on `room.host`. Raises whatever the device raises."""
        if plan.tile is None:
            return self._run_untiled(plan.pictures)
        by_tiles = tiled.decode if self.way == "decode" else tiled.encode
        return by_tiles(
            self.network,
            self.values,
            plan.tile,
            device=self.room.device,
            host=self.room.host,
            on_step=self.on_step,
            waiting_bytes=plan.waiting_bytes,
        )

    def _run_untiled(self, pictures: int) -> Encoding:
        """So many pictures at once, then the next."""
        passes = self.values.split(pictures)
        compute = self.network.decode if self.way == "decode" else self.network.encoding
        steps = sum(self.network.step_count(self.way, some.shape) for some in passes)
        with _counting_steps(self.network, self.way, steps, self.on_step):
            return joined([compute(some.to(self.room.device)).to(self.room.host) for some in passes])


@dataclass(frozen=True)
class Worked:
    """A result, the plan it was made with as one line, and what went differently than planned."""

    result: Encoding
    plan: str
    notes: tuple[str, ...] = ()


def decode(
    network: VAENetwork,
    latent: Tensor,
    tiling: Tiling,
    room: Room,
    on_step: OnStep,
    in_float32: Callable[[], VAENetwork],
) -> Worked:
    """Decode a latent as memory allows.

    Args:
        network: on `room.device`.
        latent: raw, [B, C, h, w], in the network's type.
        tiling: how the work may be cut.
        room: the devices, and the memory that is free there.
        on_step: called as `on_step(done, total)`; what it raises ends the work.
        in_float32: makes the network for float32, wanted only when numbers overflow.

    Returns:
        Pixels [B, 3, H, W], about -1..1, on `room.host`; the plan, and what went differently.

    Raises:
        BudgetError: not even the smallest plan fits.
        ValueError: the latent does not fit the network.

    >>> from ..config import VAEConfig
    >>> from ..networks.kl import AutoencoderKL
    >>> vae, cpu = AutoencoderKL(VAEConfig(32, (1, 2), blocks=1, latent=4, quant=True)).eval(), torch.device("cpu")
    >>> done = decode(vae, torch.randn(1, 4, 8, 8), Tiling(), Room(cpu, cpu, None), lambda *_: None, lambda: vae)
    >>> done.result.shape, done.plan.partition(",")[0], done.notes
    (torch.Size([1, 3, 16, 16]), 'all cells at once', ())
    """
    network.check_decodes(latent)
    return _finish(Work("decode", network, latent, tiling, room, on_step, in_float32))


def encode(
    network: VAENetwork,
    pixels: Tensor,
    tiling: Tiling,
    room: Room,
    on_step: OnStep,
    in_float32: Callable[[], VAENetwork],
) -> Worked:
    """Encode pixels [B, 3, H, W] in -1..1, in whole cells, as memory allows; arguments and errors are `decode`'s.

    The result is a Posterior, of a kind without distributions the latent, on `room.host`.
    """
    network.check_encodes(pixels)
    return _finish(Work("encode", network, pixels, tiling, room, on_step, in_float32))


@contextmanager
def _counting_steps(network: VAENetwork, way: str, total: int, on_step: OnStep) -> Iterator[None]:
    """While this is open, `on_step` hears of each step of the half that has run, and can stop the work there."""
    steps = [part for part in network.half_for(way).modules() if isinstance(part, network.steps)]
    done = count(1)
    hooks = [step.register_forward_hook(lambda *_: on_step(next(done), total)) for step in steps]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _finish(work: Work) -> Worked:
    """Do the work, a second time in float32 where a sound input overflowed."""
    result, plan, notes = _try_plans(work)
    values, room = work.values, work.room
    if values.dtype != torch.float32 and not _is_finite(result) and _is_finite(values):
        short = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(values.dtype, str(values.dtype))
        notes.append(f"the VAE overflowed in {short}: done again in fp32 (load it with dtype fp32 for that)")
        del result
        wide = work.in_float32()
        if wide is not work.network and room.free_bytes is not None:  # its weights are there a second time
            weights = sum(tensor.numel() * tensor.element_size() for tensor in wide.parameters())
            room = replace(room, free_bytes=max(0, room.free_bytes - weights))
        result, plan, more = _try_plans(replace(work, network=wide, values=values.float(), room=room))
        notes += more
    return Worked(result, str(plan), tuple(notes))


def _try_plans(work: Work) -> tuple[Encoding, Plan, list[str]]:
    """The result, the plan it was made with, and notes; a smaller plan wherever memory runs out."""
    room, tiling = work.room, work.tiling
    plans = work.plans()
    plan, notes = next(plans), list[str]()
    while True:
        with torch.inference_mode():
            result, why = _unless_out_of_memory(work, plan)
        if plan.host_bytes and room.apart:
            room.give_back_pinned()
        if result is not None:
            return result, plan, notes
        room.give_back()
        smaller = None if tiling.mode == "off" and plan.untiled else next(plans, None)
        if smaller is None:
            raise BudgetError(
                f"memory ran out even with the plan {plan} ({why}); free memory, set tiling to auto, or use a smaller "
                "picture"
            )
        notes.append(f"memory ran out with the plan {plan}: done with {smaller}")
        plan = smaller


def _unless_out_of_memory(work: Work, plan: Plan) -> tuple[Encoding | None, str]:
    """Run the plan; None and the device's words on out-of-memory. Returning drops the exception, whose traceback would
    keep the failed try's tensors alive.
    """
    errors = work.room.errors
    try:
        return work.run(plan), ""
    except (RuntimeError, MemoryError) as error:
        if errors.is_lost(error):
            raise errors.lost(error, _DOING[work.way]) from error
        if not errors.is_out_of_memory(error):
            raise
        return None, errors.first_line(error)


def _is_finite(encoding: Encoding) -> bool:
    return bool(mean_of(encoding).isfinite().all())
