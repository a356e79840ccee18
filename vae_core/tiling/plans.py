"""How much memory encoding and decoding need, and the plan that suits a budget.

Arithmetic on the sizes of a network: what waits between sweeps, what a tile needs while it is computed, what the
untiled network holds at its fullest moment. The weights are not counted.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .network import NetworkConfig, VAENetwork
from .tiles import Size

SMALLEST_CELLS = 256  # 16 x 16: below this the rows round a tile cost more than the tile
LARGEST_CELLS = 4096  # 64 x 64: above it tiles are no faster, and between two of them the work can be stopped
_LEAN_SHARE = 1 / 8  # a tile may need this share of what waits: larger ones are hardly faster
_SMALL_BYTES = 256 << 20  # untiled pictures below this are not worth tiles
LIBRARY_BYTES = 64 << 20  # measured: what torch and its convolutions take for themselves
_KEPT_BELOW_BYTES = 64 << 20  # of tiles smaller than this, Linux's C library keeps what is freed,
_SMALL_TENSORS_BYTES = 96 << 20  # three frames of 32 MB, up to which it takes a tensor from memory that it keeps
_KEPT = {"decode": 0.3, "encode": 0.1}  # share of host_bytes that glibc keeps after free() (measured, Linux)
_COPIES = {"decode": 2.6, "encode": 2.6}  # a tile's values in units of its widest activations


class BudgetError(ValueError):
    """Even the smallest plan does not fit; one sentence says what would."""


@dataclass(frozen=True)
class Plan:
    """Untiled (`tile` None), or tiles of `tile` latent cells."""

    tile: Size | None
    device_bytes: int  # on the device: the tile, or everything when untiled; on a card also what waits there
    host_bytes: int  # activations stored between sweeps, plus the output; with a card only those in host memory
    needs_bytes: int  # peak if device and host share one memory: less than the sum, their peaks do not coincide
    tile_bytes: int = 0  # the part of it that grows with the tile
    pictures: int = 1  # in one pass
    waiting_bytes: int | None = None  # the most bytes of stored activations on the device; None: all
    told: str = ""  # for a card: the plan and why, in one sentence

    @property
    def untiled(self) -> bool:
        return self.tile is None

    @property
    def how(self) -> str:
        """In words."""
        return "all cells at once" if self.tile is None else f"tiles of {self.tile[0]} x {self.tile[1]} cells"

    def __str__(self) -> str:
        return self.told or f"{self.how}, about {self.needs_bytes / 1e6:,.0f} MB without the weights"


def untiled_plan(
    config: NetworkConfig, shape: tuple[int, int, int, int], dtype_bytes: int, *, way: str = "decode"
) -> Plan:
    """All cells at once, whatever it needs; the arguments are those of `largest_plan`."""
    return next(_plans(config, shape, dtype_bytes, way))


def untiled_bytes(network: VAENetwork, way: str, shape: Sequence[int], dtype_bytes: int) -> int:
    """The memory that one picture, or video, needs untiled, for pixels or a latent of that shape."""
    config, cells = network.sized(network.config, way, shape)
    return untiled_plan(config, (1, *cells[1:]), dtype_bytes, way=way).needs_bytes


def largest_plan(
    config: NetworkConfig,
    shape: tuple[int, int, int, int],
    budget_bytes: int | None,
    dtype_bytes: int,
    *,
    way: str = "decode",
) -> Plan:
    """Choose the plan with the largest tiles that fits a budget, for one memory (a card has `card_plans`).

    Args:
        config: the sizes of the network.
        shape: the latent's [B, C, h, w], for both ways.
        budget_bytes: the most memory to use, weights not counted; None chooses the largest tiles that are worth having.
        dtype_bytes: bytes of one value.
        way: "decode" or "encode".

    Returns:
        The plan, untiled where that fits the budget, without one where untiled needs little or no more than tiles.

    Raises:
        BudgetError: nothing fits; the sentence says what would.
        ValueError: another way.

    >>> from ..config import VAEConfig
    >>> sd1 = VAEConfig(128, (1, 2, 4, 4), blocks=2, latent=4, quant=True)
    >>> largest_plan(sd1, (1, 4, 32, 32), None, 2).how
    'all cells at once'
    >>> largest_plan(sd1, (1, 4, 128, 128), 1_000_000_000, 2).how
    'tiles of 32 x 128 cells'
    """
    plans = list(_plans(config, shape, dtype_bytes, way))
    if budget_bytes is None:
        if plans[0].needs_bytes <= _SMALL_BYTES:
            return plans[0]
        worth = dtype_bytes * config.values(way, shape[2] * shape[3] * config.factor**2).tile
        lean = (plan for plan in plans[1:] if plan.tile_bytes <= max(worth, plan.host_bytes * _LEAN_SHARE))
        chosen = next(lean, plans[-1])
        return chosen if chosen.needs_bytes < plans[0].needs_bytes else plans[0]

    for plan in plans:
        if plan.needs_bytes <= budget_bytes:
            return plan
    least = min(plans, key=lambda plan: plan.needs_bytes)
    raise BudgetError(
        f"{budget_bytes / 1e6:,.0f} MB are not enough: even {least.how} need "
        f"{math.ceil(least.needs_bytes / 1e6):,} MB; set the budget to that or more, or use a smaller "
        "picture"
    )


def plan_of_tile(
    config: NetworkConfig,
    shape: tuple[int, int, int, int],
    tile: Size,
    dtype_bytes: int,
    *,
    way: str = "decode",
) -> Plan:
    """Tiles of at most that many latent cells, whatever they need; the arguments are those of `largest_plan`."""
    tile = (min(tile[0], shape[2]), min(tile[1], shape[3]))
    return next(_plans(config, shape, dtype_bytes, way, (tile,)))


def smaller_plans(
    config: NetworkConfig,
    shape: tuple[int, int, int, int],
    plan: Plan,
    dtype_bytes: int,
    *,
    way: str = "decode",
) -> Iterator[Plan]:
    """Plans to try one after another when memory ran out under `plan`: each needs at most 0.7 of the one before."""
    last = plan
    for smaller in _plans(config, shape, dtype_bytes, way):
        if smaller.device_bytes <= 0.7 * last.device_bytes:
            yield smaller
            last = smaller


def _plans(
    config: NetworkConfig,
    shape: tuple[int, int, int, int],
    dtype_bytes: int,
    way: str,
    tiles: Iterable[Size] | None = None,
) -> Iterator[Plan]:
    """Untiled, then strips as wide as the picture and ever lower, then shorter and shorter pieces; or `tiles` alone."""
    batch, _, height, width = shape
    check_way(way)
    px = height * width * config.factor**2
    widths, needs = config.widths_of(way), config.values(way, px)
    once, waits, middle = needs.once, needs.waits, needs.middle
    result = batch * config.image_channels * px
    besides = needs.kept if dtype_bytes * needs.largest < _SMALL_TENSORS_BYTES else 0.0
    all_at_once = LIBRARY_BYTES + round(dtype_bytes * (batch * once * (1 + besides) + result))
    if tiles is None:
        yield Plan(None, all_at_once, 0, all_at_once)
    host = dtype_bytes * (waits + result)
    for tile in tiles_of(height, width, square=needs.reach > 0) if tiles is None else tiles:
        rows, columns = (min(side, edge + 2 * needs.reach) for side, edge in zip((height, width), tile))
        values = _COPIES[way] * max(widths[:2]) * rows * columns * config.factor**2
        if tile[1] < width:  # a row of tiles waits for the next one
            values += widths[0] * tile[0] * width * config.factor**2
        share = rows * columns / (height * width)
        if dtype_bytes * needs.largest * share < _SMALL_TENSORS_BYTES:
            values *= 1 + needs.kept
        values = min(values, once)
        device = LIBRARY_BYTES + round(dtype_bytes * max(values, middle))
        tile_bytes = dtype_bytes * max(values, middle - waits / 2)
        kept = _KEPT[way] * host if dtype_bytes * values / _COPIES[way] < _KEPT_BELOW_BYTES else 0
        both = LIBRARY_BYTES + host + kept + tile_bytes
        yield Plan(tile, device, round(host), round(both), round(tile_bytes))


def check_way(way: str) -> None:
    """Raises ValueError for another way than "encode" and "decode"."""
    if way not in _COPIES:
        raise ValueError(f"a VAE can decode or encode, not {way!r}")


def tiles_of(height: int, width: int, *, square: bool = False) -> Iterator[Size]:
    """Tiles worth trying, the largest first: strips, then pieces of them, or `square` ones with less round them."""
    if square:
        rows = columns = 1
        while (tile := (math.ceil(height / rows), math.ceil(width / columns)))[0] * tile[1] > SMALLEST_CELLS:
            rows, columns = (rows + 1, columns) if tile[0] >= tile[1] else (rows, columns + 1)
            yield math.ceil(height / rows), math.ceil(width / columns)
        return
    rows, columns = max(1, min(height, LARGEST_CELLS // width)), width
    yield rows, columns
    while rows * width > SMALLEST_CELLS and rows > 1:
        rows = max(1, math.ceil(SMALLEST_CELLS / width), int(rows * 0.8))
        yield rows, columns
        if rows * width < 2 * SMALLEST_CELLS:
            break
    while rows * columns >= 2 * SMALLEST_CELLS:
        columns = math.ceil(columns / 2)
        yield rows, columns
