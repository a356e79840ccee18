"""Plans for a card with a memory of its own: at once where that fits, else tiles that send as little as can be away.

What is computed and what waits share the card; what finds no place there waits in host memory, and crosses the bus in
each sweep: so the first choice is all pictures that fit in one pass, then the largest tiles beside which everything
waits on the card, then tiles so small that most of it does. The weights are not counted.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..layers import CARD_SCORES, CARD_TILE_SCORES
from .network import NetworkConfig
from .plans import LIBRARY_BYTES, BudgetError, Plan, check_way, tiles_of
from .tiles import Size
from .waiting import SLAB_BYTES

Shape = tuple[int, int, int, int]
_MOST_VALUES = 2**31 - 1  # of one tensor: kernels that count in 32 bits fail beyond, or are replaced by slow ones
_COPIES = 3.2  # a tile's values in units of its widest activations; its moments are taken in float32
_BUFFERS = 4  # of the two lanes
_ROOMS = 3  # of activations at once: so often the last slab of host memory is not full
_LEAN_SHARE = 1 / 8  # of what waits: where that does not fit, larger tiles only send more of it over the bus
_SMALLER = 0.7  # of the memory that ran out


@dataclass(frozen=True)
class Limit:
    """The bytes of the card that a plan may use, the same in words, and what to do where they are too few."""

    most_bytes: int
    words: str  # "22,000 MB free on the card"
    remedy: str = "set the budget to that or more"


@dataclass(frozen=True)
class _Needs:
    """What one network needs on a card for one picture, in bytes."""

    once: float  # all of it at once
    waits: float  # between sweeps
    middle: float  # attention, while tiles are computed
    edges: float  # picture and latent
    largest: int  # values of the largest tensor
    reach: int  # cells round a tile that are computed with it


def card_plan(
    config: NetworkConfig,
    shape: Shape,
    limit: Limit,
    dtype_bytes: int,
    *,
    way: str = "decode",
    host_free_bytes: int | None = None,
    most: Size | None = None,
) -> Plan:
    """The plan that computes `shape`, the latent's [B, C, h, w] for both ways, soonest within the limit.

    With `most` it has tiles, of no more cells along each side. Raises BudgetError where nothing fits the card, or what
    has to wait in host memory does not fit `host_free_bytes`; ValueError for another way than "decode" and "encode".
    """
    needs = _needs(config, shape, dtype_bytes, way)
    at_once = untiled_card_plan(config, shape, limit, dtype_bytes, way=way)
    if most is None and at_once.device_bytes <= limit.most_bytes and needs.largest <= _MOST_VALUES:
        return at_once
    why = (
        f"the largest tensor of an untiled pass has {needs.largest:,} values, more than kernels count"
        if most is None and at_once.device_bytes <= limit.most_bytes
        else f"untiled needs {_mb(at_once.device_bytes)} of {limit.words}"
    )
    if most is not None:
        why = "tiles were asked for"
    plans = list(_tiled(config, shape, needs, dtype_bytes, way, most))
    for plan in plans:
        if plan.device_bytes + needs.waits <= limit.most_bytes:
            return replace(
                plan,
                device_bytes=round(plan.device_bytes + needs.waits),
                told=(
                    f"{plan.how}: about {_mb(plan.device_bytes + needs.waits)} on the card, of which "
                    f"{_mb(needs.waits)} wait there between sweeps, because {why}"
                ),
            )
    lean = [plan for plan in plans if plan.tile_bytes <= needs.waits * _LEAN_SHARE] or plans[-1:]
    for plan in lean:
        left = limit.most_bytes - plan.needs_bytes
        if left >= 0:
            return _shared(plan, needs, left, limit, why, host_free_bytes)
    least = [(plan.device_bytes + needs.waits, plan.how) for plan in plans]
    least += [(plan.needs_bytes, plan.how) for plan in lean]
    least += [(at_once.device_bytes, at_once.how)] if most is None and at_once.pictures == 1 else []
    enough, how = min(least)
    raise BudgetError(
        f"{limit.words} are not enough: even {how} need {math.ceil(enough / 1e6):,} MB; {limit.remedy}, "
        "or use a smaller picture"
    )


def untiled_card_plan(
    config: NetworkConfig, shape: Shape, limit: Limit, dtype_bytes: int, *, way: str = "decode"
) -> Plan:
    """At once, whatever it needs: as many pictures in a pass as the limit allows, but one."""
    needs = _needs(config, shape, dtype_bytes, way)
    each = needs.once + needs.edges
    fitting = min(int((limit.most_bytes - LIBRARY_BYTES) // each), _MOST_VALUES // needs.largest, shape[0])
    passes = math.ceil(shape[0] / max(1, fitting))
    pictures = math.ceil(shape[0] / passes)  # passes of one size, not full ones and a rest
    takes = round(LIBRARY_BYTES + pictures * each)
    several = ", one picture at a time" if pictures == 1 else f", {pictures} pictures at a time"
    several = several if shape[0] > 1 else ""
    return Plan(None, takes, 0, takes, pictures=pictures, told=f"untiled{several}: about {_mb(takes)} of {limit.words}")


def resting_bytes(config: NetworkConfig, shape: Shape, dtype_bytes: int, *, way: str = "decode") -> int:
    """What tiles need with all that waits on the card: more is faster, less sends activations over the bus."""
    needs = _needs(config, shape, dtype_bytes, way)
    plans = list(_tiled(config, shape, needs, dtype_bytes, way, None))
    lean = next((plan for plan in plans if plan.tile_bytes <= needs.waits * _LEAN_SHARE), plans[-1])
    return round(lean.device_bytes + needs.waits)


def smaller_card_plans(
    config: NetworkConfig,
    shape: Shape,
    plan: Plan,
    dtype_bytes: int,
    *,
    way: str = "decode",
    host_free_bytes: int | None = None,
    most: Size | None = None,
) -> Iterator[Plan]:
    """Plans to try one after another when memory ran out under `plan`: each within 0.7 of the one before."""
    while True:
        limit = Limit(round(_SMALLER * plan.device_bytes), f"the {_mb(plan.device_bytes)} that ran out")
        try:
            plan = card_plan(config, shape, limit, dtype_bytes, way=way, host_free_bytes=host_free_bytes, most=most)
        except BudgetError:
            return
        yield plan


def _needs(config: NetworkConfig, shape: Shape, dtype_bytes: int, way: str) -> _Needs:
    check_way(way)
    px = shape[2] * shape[3] * config.factor**2
    values = config.values(way, px)
    plain = 8 / dtype_bytes  # attention where no kernel does without its scores: in float32, twice
    return _Needs(
        dtype_bytes * max(values.once_on_card, values.middle + plain * min(values.scores, CARD_SCORES)),
        dtype_bytes * values.waits,
        dtype_bytes * (values.middle + plain * min(values.scores, CARD_TILE_SCORES)),
        dtype_bytes * 2 * config.image_channels * px,
        round(values.largest),
        values.reach,
    )


def _tiled(
    config: NetworkConfig, shape: Shape, needs: _Needs, dtype_bytes: int, way: str, most: Size | None
) -> Iterator[Plan]:
    """For each tile: what is on the card beside what waits, if all of that is there (device_bytes), or where none of it
    is (needs_bytes), and of that the tile's own (tile_bytes).
    """
    height, width = shape[2:]
    widths = config.widths_of(way)
    tiles = list(tiles_of(height, width, square=needs.reach > 0)) or [(height, width)]
    if most is not None:
        most = (min(most[0], height), min(most[1], width))
        tiles = [most, *(tile for tile in tiles if tile[0] * tile[1] < most[0] * most[1])]
    for tile in tiles:
        rows, columns = (min(side, edge + 2 * needs.reach) for side, edge in zip((height, width), tile))
        widest = dtype_bytes * max(widths[:2]) * rows * columns * config.factor**2
        own = _COPIES * widest
        if tile[1] < width:  # a row of tiles waits for the next one
            own += dtype_bytes * widths[0] * tile[0] * width * config.factor**2
        own = min(own, needs.once)
        buffers = _BUFFERS * min(SLAB_BYTES, widest)
        beside = LIBRARY_BYTES + needs.edges + max(own, needs.middle - needs.waits / 2)
        alone = LIBRARY_BYTES + needs.edges + max(own + buffers, needs.middle)
        yield Plan(tile, round(beside), 0, round(alone), round(own + buffers))


def _shared(plan: Plan, needs: _Needs, left: int, limit: Limit, why: str, host_free_bytes: int | None) -> Plan:
    """That plan with `left` bytes of the card for what waits, and the rest of it in host memory."""
    here = min(left, round(needs.waits))
    host = (math.ceil((needs.waits - here) / SLAB_BYTES) + _ROOMS) * SLAB_BYTES
    if host_free_bytes is not None and host > host_free_bytes:
        raise BudgetError(
            f"{limit.words} are too few for all that waits between {plan.how}: {_mb(host)} of it would "
            f"be in the computer's own memory, where {_mb(host_free_bytes)} are free; close other "
            "programs, or use a smaller picture"
        )
    takes = plan.needs_bytes + here
    return replace(
        plan,
        device_bytes=takes,
        host_bytes=host,
        needs_bytes=takes,
        waiting_bytes=here,
        told=(
            f"{plan.how}: about {_mb(takes)} on the card, of which {_mb(here)} wait there between sweeps, and "
            f"{_mb(needs.waits - here)} wait in host memory, because {why}"
        ),
    )


def _mb(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"
