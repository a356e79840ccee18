"""A VAE at work: whole or in exact tiles, as memory allows, again with smaller tiles when it runs out all the same, and
again in float32 when numbers overflow; and what of that happened, in sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from ....vae_core.autoencoder import Posterior
from ....vae_core.layers import Attention, Down, ResidualBlock, Up
from ....vae_core.tiling import tiled
from ....vae_core.tiling.card_plans import Limit, card_plan, resting_bytes, smaller_card_plans, untiled_card_plan
from ....vae_core.tiling.network import KLNetwork, VAENetwork
from ....vae_core.tiling.plans import BudgetError, Plan, largest_plan, plan_of_tile, smaller_plans, untiled_plan
from ....vae_core.tiny import Block
from .device_errors import first_line, is_lost, is_out_of_memory, lost, release, release_pinned

_SPARE = 0.9  # of the free memory; the rest is for what the host does meanwhile
_KEPT_FREE_BYTES = 800 << 20  # ComfyUI makes this free at every load, asked or not (minimum_inference_memory)
_UNTOLD_BYTES = 1 << 40  # where nobody says what is free: when it runs out, less is tried
_BLOCKS = (ResidualBlock, Attention, Up, Down, Block)  # each is called once a picture
_FREE = "unload models or close what else uses the card"


@dataclass(frozen=True)
class Tiling:
    """auto: on a card with a memory of its own at once where that fits what is free, elsewhere tiles as large as is
    worth having, if they fit the free memory; off: none; budget: the largest that `budget_mb` allows; tile: tiles of at
    most `tile` latent cells, as a stock node asks for.
    """

    mode: str = "auto"
    budget_mb: int = 4096
    tile: tuple[int, int] | None = None


@dataclass(frozen=True)
class Room:
    """Where a network computes and where results are wanted, and how much memory is free: on the device, and on the
    computer for what waits there (None: not known). `give_back` frees what the device's allocator holds unused.
    """

    device: torch.device
    host: torch.device
    free_bytes: int | None
    host_free_bytes: int | None = None
    give_back: Callable[[], None] | None = None

    @property
    def apart(self) -> bool:
        """Whether the device has a memory of its own."""
        return self.device.type not in ("cpu", "mps")


@dataclass(frozen=True)
class Worked:
    """A result, the plan it was made with as one line, and what went differently than planned."""

    result: Tensor | Posterior
    plan: str
    notes: tuple[str, ...] = ()


def decode(
    network: VAENetwork,
    latent: Tensor,
    tiling: Tiling,
    room: Room,
    on_step: Callable[[int, int], None],
    in_float32: Callable[[], VAENetwork],
) -> Worked:
    """Raw latent [B, C, h, w] of the network's type -> pixels [B, 3, H, W], nominally -1..1, on `room.host`.

    Raises:
        BudgetError: not even the smallest plan fits.
    """

    def run(net: VAENetwork, z: Tensor, plan: Plan) -> Tensor:
        if not plan.untiled:
            return tiled.decode(
                net,
                z,
                plan.tile,
                device=room.device,
                host=room.host,
                on_step=on_step,
                waiting_bytes=plan.waiting_bytes,
            )
        passes = z.split(plan.pictures)
        with _told(net, "decode", len(passes), on_step):
            return torch.cat([net.decode(some.to(room.device)).to(room.host) for some in passes])

    return _worked("decode", network, latent, tuple(latent.shape), run, tiling, room, in_float32)


def encode(
    network: VAENetwork,
    pixels: Tensor,
    tiling: Tiling,
    room: Room,
    on_step: Callable[[int, int], None],
    in_float32: Callable[[], VAENetwork],
) -> Worked:
    """Pixels [B, 3, H, W] in -1..1 in whole cells -> Posterior, or of a tiny autoencoder the latent, on `room.host`."""

    def run(net: VAENetwork, x: Tensor, plan: Plan) -> Tensor | Posterior:
        if not plan.untiled:
            return tiled.encode(
                net,
                x,
                plan.tile,
                device=room.device,
                host=room.host,
                on_step=on_step,
                waiting_bytes=plan.waiting_bytes,
            )
        network_encode = net.posterior if isinstance(net, KLNetwork) else net.encode
        passes = x.split(plan.pictures)
        with _told(net, "encode", len(passes), on_step):
            return _joined([_moved(network_encode(some.to(room.device)), room.host) for some in passes])

    factor = network.config.factor
    cells = (len(pixels), network.config.latent, pixels.shape[2] // factor, pixels.shape[3] // factor)
    return _worked("encode", network, pixels, cells, run, tiling, room, in_float32)


@contextmanager
def _told(net: VAENetwork, way: str, passes: int, on_step: Callable[[int, int], None]) -> Iterator[None]:
    """While this lasts, `on_step` hears of each block that is through, and can stop the work there."""
    halves = {"decode": ("decoder", "taesd_decoder"), "encode": ("encoder", "taesd_encoder")}[way]
    there = [half for name in halves if (half := getattr(net, name, None)) is not None]
    blocks = [part for half in there for part in half.modules() if isinstance(part, _BLOCKS)]
    done = count(1)
    hooks = [block.register_forward_hook(lambda *_: on_step(next(done), passes * len(blocks))) for block in blocks]
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
        wide = in_float32()
        if wide is not network and room.free_bytes is not None:  # its weights are there a second time
            weights = sum(tensor.numel() * tensor.element_size() for tensor in wide.parameters())
            room = replace(room, free_bytes=max(0, room.free_bytes - weights))
        found, plan, more = _run(way, wide, values.float(), cells, run, tiling, room)
        notes += more
    return Worked(found, str(plan), tuple(notes))


def _run(way: str, network, values: Tensor, cells, run, tiling: Tiling, room: Room) -> tuple:
    """The result, the plan it was made with, and notes; a smaller plan where memory runs out."""
    plans = (_card_plans if room.apart else _plans)(way, network.config, cells, values.element_size(), tiling, room)
    notes, plan = [], next(plans)
    while True:
        with torch.inference_mode():
            found, why = _unless_out_of_memory(way, run, network, values, plan)
        if plan.host_bytes and room.apart:
            release_pinned()
        if found is not None:
            return found, plan, notes
        release(room.device) if room.give_back is None else room.give_back()
        smaller = None if tiling.mode == "off" and plan.untiled else next(plans, None)
        if smaller is None:
            raise BudgetError(
                f"memory ran out even with the plan {plan} ({why}); free memory, set tiling to auto, or use a smaller "
                "picture"
            )
        notes.append(f"memory ran out with the plan {plan}: done with {smaller}")
        plan = smaller


def _plans(way: str, config, cells, width: int, tiling: Tiling, room: Room) -> Iterator[Plan]:
    """The plan for one memory, picture by picture, and those to try when memory runs out."""
    cells = (1, *cells[1:])

    def fitting(budget_bytes: int | None) -> Plan:
        return largest_plan(config, cells, budget_bytes, width, way=way)

    if tiling.mode == "off":
        first = untiled_plan(config, cells, width, way=way)
    elif tiling.mode == "budget":
        first = fitting(tiling.budget_mb * 1_000_000)
    elif tiling.mode == "tile":
        first = plan_of_tile(config, cells, tiling.tile, width, way=way)
    else:
        first = fitting(None)
        if room.free_bytes is not None and first.needs_bytes > room.free_bytes * _SPARE:
            first = fitting(round(room.free_bytes * _SPARE))
    yield first
    yield from smaller_plans(config, cells, first, width, way=way)


def _card_plans(way: str, config, cells, width: int, tiling: Tiling, room: Room) -> Iterator[Plan]:
    """The plan for a card with a memory of its own, and those to try when that runs out."""
    rest = {"way": way, "host_free_bytes": room.host_free_bytes, "most": tiling.tile}
    limit = card_limit(tiling, room.free_bytes)
    if tiling.mode == "off":
        first = untiled_card_plan(config, cells, limit, width, way=way)
    else:
        first = card_plan(config, cells, limit, width, **rest)
    yield first
    yield from smaller_card_plans(config, cells, first, width, **rest)


def card_limit(tiling: Tiling, free_bytes: int | None) -> Limit:
    """What of a card a plan may use: the budget, or most of what is free."""
    if tiling.mode == "budget":
        return Limit(tiling.budget_mb * 1_000_000, f"the budget of {tiling.budget_mb:,} MB")
    if free_bytes is None:
        return Limit(_UNTOLD_BYTES, "a memory that does not say what of it is free", _FREE)
    return Limit(round(free_bytes * _SPARE), f"{free_bytes / 1e6:,.0f} MB free on the card", _FREE)


def required_bytes(way: str, config, cells, width: int, tiling: Tiling, room: Room) -> int:
    """What a host that unloads other models on demand is to make free for this work; `room` tells what is free now.

    Nothing is unloaded where everything fits what is free: at once, or in tiles with all that waits on the card.
    Otherwise as much as those tiles need: on the card of 8 to 12 GB that a diffusion model fills, what is unloaded of
    that crosses the bus once each way, what waits in host memory does so in each sweep, and the untiled need would
    unload several times as much. With tiling off it is the untiled need, under a budget never more than that.
    """
    one = (1, *cells[1:])
    if not room.apart:
        whole = untiled_plan(config, one, width, way=way)
        return (whole if tiling.mode == "off" else largest_plan(config, one, None, width, way=way)).needs_bytes
    limit = card_limit(tiling, room.free_bytes)
    at_once = untiled_card_plan(config, one, limit, width, way=way).device_bytes
    if tiling.mode == "off":
        return round(at_once / _SPARE)
    least = min(at_once, max(_KEPT_FREE_BYTES, resting_bytes(config, one, width, way=way)))
    if tiling.mode == "budget":
        return min(least, limit.most_bytes)
    return round(least / _SPARE)


def _unless_out_of_memory(way: str, run, network, values: Tensor, plan: Plan) -> tuple:
    """The result, or None and what was said when memory ran out; what holds the memory of the failed try is gone when
    this returns.
    """
    try:
        return run(network, values, plan), ""
    except (RuntimeError, MemoryError) as error:
        if is_lost(error):
            raise lost(error, f"{way[:-1]}ing") from error
        if not is_out_of_memory(error):
            raise
        return None, first_line(error)


def _moved(found: Tensor | Posterior, device: torch.device) -> Tensor | Posterior:
    return found.to(device) if isinstance(found, Tensor) else tiled.moved(found, device)


def _finite(found: Tensor | Posterior) -> bool:
    return bool((found.mean if isinstance(found, Posterior) else found).isfinite().all())
