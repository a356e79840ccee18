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
from .card_plans import Limit, card_plan, resting_bytes, smaller_card_plans, untiled_card_plan
from .network import NetworkConfig, VAENetwork
from .plans import BudgetError, Plan, largest_plan, plan_of_tile, smaller_plans, untiled_plan
from .sweeps import OnStep

Shape = tuple[int, int, int, int]
_SPARE = 0.9  # of the free memory; the rest is for what the host does meanwhile
_KEPT_FREE_BYTES = 800 << 20  # ComfyUI makes this free at every load, asked or not (minimum_inference_memory)
_UNKNOWN_BYTES = 1 << 40  # the limit where nobody says how much is free: when it runs out, less is tried
_FREE = "unload models or close what else uses the card"
_DOING = {"decode": "decoding", "encode": "encoding"}


@dataclass(frozen=True)
class Tiling:
    """How a user wants the work to be cut.

    auto: on a card with a memory of its own at once where that fits what is free, elsewhere tiles as large as is worth
    having, if they fit the free memory; off: no tiles; budget: the largest that `budget_mb` allows; tile: tiles of at
    most `tile` latent cells, as a stock node asks for.
    """

    mode: str = "auto"
    budget_mb: int = 4096
    tile: tuple[int, int] | None = None


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class DeviceErrors:
    """How to read what a device raises. By default torch's own error class is known and a lost device is not."""

    is_out_of_memory: Callable[[BaseException], bool] = _is_memory
    first_line: Callable[[BaseException], str] = _first_line
    is_lost: Callable[[BaseException], bool] = lambda error: False
    lost: Callable[[BaseException, str], Exception] = lambda error, doing: RuntimeError(f"{error} while {doing}")


@dataclass(frozen=True)
class Room:
    """Where a network computes and where results are wanted, and the memory there.

    device, host: for computing and for results; free_bytes: on the device; host_free_bytes: on the computer, for
    activations between sweeps (None: not known). give_back frees what the device's allocator holds unused,
    give_back_pinned the same of pinned host memory.
    """

    device: torch.device
    host: torch.device
    free_bytes: int | None
    host_free_bytes: int | None = None
    give_back: Callable[[], None] = lambda: None
    give_back_pinned: Callable[[], None] = lambda: None
    errors: DeviceErrors = DeviceErrors()

    @property
    def apart(self) -> bool:
        """Whether the device has a memory of its own."""
        return self.device.type not in ("cpu", "mps")


@dataclass(frozen=True)
class Work:
    """One call: what to compute, how it may be cut, and where.

    in_float32: makes the network for float32, wanted only when numbers overflow.
    """

    way: str  # "decode" or "encode"
    network: VAENetwork
    values: Tensor  # [B, C, h, w] latents or [B, 3, H, W] pixels, in the type that is computed in
    cells: Shape  # of the latents
    tiling: Tiling
    room: Room
    on_step: OnStep
    in_float32: Callable[[], VAENetwork]

    def plans(self) -> Iterator[Plan]:
        """The plan to begin with, then those to try when memory runs out."""
        choose = _card_plans if self.room.apart else _plans
        return choose(self.way, self.network.config, self.cells, self.values.element_size(), self.tiling, self.room)

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
        with _counting_steps(self.network, self.way, len(passes), self.on_step):
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
    >>> done.result.shape, done.plan, done.notes
    (torch.Size([1, 3, 16, 16]), 'all cells at once, about 68 MB without the weights', ())
    """
    batch, channels, height, width = latent.shape if latent.ndim == 4 else (0, 0, 0, 0)
    cells = (batch, channels, height, width)
    return _finish(Work("decode", network, latent, cells, tiling, room, on_step, in_float32))


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
    config = network.config
    cells = (len(pixels), config.latent, pixels.shape[2] // config.factor, pixels.shape[3] // config.factor)
    return _finish(Work("encode", network, pixels, cells, tiling, room, on_step, in_float32))


@contextmanager
def _counting_steps(network: VAENetwork, way: str, passes: int, on_step: OnStep) -> Iterator[None]:
    """While this is open, `on_step` hears of each step of the half that has run, and can stop the work there."""
    steps = [part for part in network.half_for(way).modules() if isinstance(part, network.steps)]
    done = count(1)
    hooks = [step.register_forward_hook(lambda *_: on_step(next(done), passes * len(steps))) for step in steps]
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


def _plans(
    way: str, config: NetworkConfig, cells: Shape, dtype_bytes: int, tiling: Tiling, room: Room
) -> Iterator[Plan]:
    """The plan for one memory, picture by picture, and those to try when memory runs out."""
    cells = (1, *cells[1:])

    def fitting(budget_bytes: int | None) -> Plan:
        return largest_plan(config, cells, budget_bytes, dtype_bytes, way=way)

    if tiling.mode == "off":
        first = untiled_plan(config, cells, dtype_bytes, way=way)
    elif tiling.mode == "budget":
        first = fitting(tiling.budget_mb * 1_000_000)
    elif tiling.tile is not None:
        first = plan_of_tile(config, cells, tiling.tile, dtype_bytes, way=way)
    else:
        first = fitting(None)
        if room.free_bytes is not None and first.needs_bytes > room.free_bytes * _SPARE:
            first = fitting(round(room.free_bytes * _SPARE))
    yield first
    yield from smaller_plans(config, cells, first, dtype_bytes, way=way)


def _card_plans(
    way: str, config: NetworkConfig, cells: Shape, dtype_bytes: int, tiling: Tiling, room: Room
) -> Iterator[Plan]:
    """The plan for a card with a memory of its own, and those to try when that runs out."""
    free, most = room.host_free_bytes, tiling.tile
    limit = card_limit(tiling, room.free_bytes)
    if tiling.mode == "off":
        first = untiled_card_plan(config, cells, limit, dtype_bytes, way=way)
    else:
        first = card_plan(config, cells, limit, dtype_bytes, way=way, host_free_bytes=free, most=most)
    yield first
    yield from smaller_card_plans(config, cells, first, dtype_bytes, way=way, host_free_bytes=free, most=most)


def card_limit(tiling: Tiling, free_bytes: int | None) -> Limit:
    """The part of a card's memory that a plan may use: the budget, or most of what is free."""
    if tiling.mode == "budget":
        return Limit(tiling.budget_mb * 1_000_000, f"the budget of {tiling.budget_mb:,} MB")
    if free_bytes is None:
        return Limit(_UNKNOWN_BYTES, "a memory that does not say what of it is free", _FREE)
    return Limit(round(free_bytes * _SPARE), f"{free_bytes / 1e6:,.0f} MB free on the card", _FREE)


def required_bytes(way: str, config: NetworkConfig, cells: Shape, dtype_bytes: int, tiling: Tiling, room: Room) -> int:
    """The bytes that a host which unloads other models on demand is to make free; `room` tells what is free now.

    Nothing is unloaded where everything fits what is free: at once, or in tiles with all that waits on the card.
    Otherwise as much as those tiles need: on the card of 8 to 12 GB that a diffusion model fills, what is unloaded of
    that crosses the bus once each way, what waits in host memory does so in each sweep, and the untiled need would
    unload several times as much. With tiling off it is the untiled need, under a budget never more than that.
    """
    one = (1, *cells[1:])
    if not room.apart:
        whole = untiled_plan(config, one, dtype_bytes, way=way)
        return (whole if tiling.mode == "off" else largest_plan(config, one, None, dtype_bytes, way=way)).needs_bytes
    limit = card_limit(tiling, room.free_bytes)
    at_once = untiled_card_plan(config, one, limit, dtype_bytes, way=way).device_bytes
    if tiling.mode == "off":
        return round(at_once / _SPARE)
    least = min(at_once, max(_KEPT_FREE_BYTES, resting_bytes(config, one, dtype_bytes, way=way)))
    if tiling.mode == "budget":
        return min(least, limit.most_bytes)
    return round(least / _SPARE)
