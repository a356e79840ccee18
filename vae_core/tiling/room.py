"""The room that a VAE has for its work, and the plans that suit it: what is free, what the user asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from .card_plans import Limit, card_plan, resting_bytes, smaller_card_plans, untiled_card_plan
from .network import NetworkConfig
from .plans import Plan, largest_plan, plan_of_tile, smaller_plans, untiled_plan

Shape = tuple[int, int, int, int]
_SPARE = 0.9  # of the free memory; the rest is for what the host does meanwhile
_KEPT_FREE_BYTES = 800 << 20  # ComfyUI makes this free at every load, asked or not (minimum_inference_memory)
_UNKNOWN_BYTES = 1 << 40  # the limit where nobody says how much is free: when it runs out, less is tried
_FREE = "unload models or close what else uses the card"


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


def plans_for(
    way: str, config: NetworkConfig, cells: Shape, dtype_bytes: int, tiling: Tiling, room: Room
) -> Iterator[Plan]:
    """The plan to begin with, then those to try when memory runs out."""
    choose = _card_plans if room.apart else _plans
    return choose(way, config, cells, dtype_bytes, tiling, room)


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
