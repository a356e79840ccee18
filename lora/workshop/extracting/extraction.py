"""Extraction: the difference of two models becomes a LoRA, layer by layer, so that the memory is that of one weight."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...kinds.adapters import Adapter, LoRAError
from ...kinds.whole import Difference
from ...models.places import Place
from ...weights.low_rank import frobenius
from ..noise import Noise, noise_of_difference, precision_of, rounding_noise
from ..outcome import adapter_of, stored
from ..ranks import AUTOMATIC, SIZE, Rule, Share, rank_by, spectrum_by
from ..resizing import CutLayer, error_over_all, of_bases
from ..sizing import Spell, costs_by_place, ranks_of_size
from ..steps import OnStep
from ..thin import Thin, dense_thin
from .pairing import Pair

_LISTED = "a norm, a bias or an embedding, which is listed and not written"
_STEPS_OF_FP32 = 16  # the roundings of a weight in fp32: of each step of the arithmetic that made it
_PIECE = 2**22  # numbers of a difference that are compared at one time
EQUAL, ROUNDING = "equal in both", "its difference is no more than the rounding of its numbers"


@dataclass(frozen=True, eq=False)
class Found:
    """What one weight gave: its adapter, None where there is nothing to write; `layer` for matrices and kernels that
    differ; `why`: a reason for the list, "" where all was well.
    """

    key: str
    adapter: Adapter | None = None
    layer: CutLayer | None = None
    why: str = ""
    capped: bool = False


@dataclass(frozen=True)
class Extracted:
    """What became of all weights.

    layers: the matrices and kernels that differ (rank 0: not written). equal: the keys without a difference. whole: the
    keys of norms, biases and embeddings whose difference is written as it is. left_out: key -> why its difference is
    not written. capped: the keys of whose difference more than the largest rank is above the rule.
    """

    layers: tuple[CutLayer, ...]
    equal: tuple[str, ...]
    whole: tuple[str, ...]
    left_out: dict[str, str]
    capped: tuple[str, ...]

    @property
    def error(self) -> float:
        """The norm of what is lost, over that of all differences of matrices and kernels."""
        return error_over_all(self.layers)

    @property
    def of_base(self) -> float:
        """The errors over the norms of the weights, of all layers in the root mean square."""
        return of_bases(self.layers) or 0.0


def extract(
    models: Pair,
    rule: Rule,
    *,
    dtype: torch.dtype = torch.float16,
    with_vectors: bool = True,
    spell: Spell | None = None,
    device: torch.device | None = None,
    on_step: OnStep,
) -> Iterator[Found]:
    """Extract gives the adapter of each weight, one after another, the largest first; nothing is kept.

    Args:
        models: of `pair`.
        rule: how many singular values of each difference are kept; `most` bounds them. `automatic` keeps those that
            rise above the rounding noise of the types that the weights are stored in. `size` reads all weights twice,
            needs `spell`, and makes the error over all differences small.
        dtype: of the file's numbers.
        with_vectors: whether the differences of norms, biases and embeddings are written as they are.
        spell: gives the tensors and the header of the file of some adapters.
        device: where the arithmetic is done; by default where the weights are.
        on_step: called after each weight with (done, all); may raise to stop.

    Raises:
        LoRAError: NaN in a weight, or a size in which nothing fits.
    """
    twice = rule.name == SIZE
    total = (2 if twice else 1) * len(models.weights) + len(models.vectors)
    ranks: dict[Place, int] = {}
    done = 0
    if twice:
        ranks = _ranks(models, rule, dtype, with_vectors, spell, device, lambda step: on_step(step, total))
        done = len(models.weights)
    for key in _largest_first(models):
        yield _of_layer(models, key, rule, dtype, device, ranks.get(key, 0) if twice else None)
        done += 1
        on_step(done, total)
    for key in models.vectors:
        yield _of_vector(models, key, dtype, with_vectors)
        done += 1
        on_step(done, total)
    for key, why in models.unfit.items():
        yield Found(key, why=why)


def _largest_first(models: Pair) -> list[str]:
    """The weights in an order in which each fits into memory that one before it has freed: in another one an allocator
    keeps several times what the largest needs.
    """
    return sorted(models.weights, key=lambda key: -math.prod(models.base.shapes[key]))


def record(found: Iterator[Found], take: Callable[[str, Adapter], str]) -> Extracted:
    """Hand every adapter on and keep the record.

    take: (key, adapter) -> "" where it was taken, else why not.

    Raises:
        LoRAError: the two models are equal, or nothing is left.
    """
    layers: list[CutLayer] = []
    equal: list[str] = []
    whole: list[str] = []
    capped: list[str] = []
    left_out: dict[str, str] = {}
    for one in found:
        why = one.why
        if one.adapter is not None and not (why := take(one.key, one.adapter)):
            whole += [one.key] if one.layer is None else []
            layers += [] if one.layer is None else [one.layer]
            capped += [one.key] if one.capped else []
        elif why == EQUAL:
            equal.append(one.key)
        if why and why != EQUAL:
            left_out[one.key] = why
            layers += [replace(one.layer, rank=0, error=1.0)] if one.layer is not None else []  # lost, and counted so
    if not any(layer.rank for layer in layers) and not whole:
        if not layers and not left_out:
            raise LoRAError(
                f"the two models are equal: none of their {len(equal)} weights differs, so there is nothing to extract"
            )
        raise LoRAError(_nothing(left_out, len(equal)))
    return Extracted(tuple(layers), tuple(equal), tuple(whole), left_out, tuple(capped))


def _nothing(left_out: Mapping[str, str], equal: int) -> str:
    key, why = next(iter(left_out.items()), ("", ""))
    return (
        f"there is nothing to extract: {equal} weights are equal in both models, {len(left_out)} are left out; "
        f"{key}: {why}"
    )


@dataclass(frozen=True, eq=False)
class _Change:
    """The difference of a weight in fp32, and the two weights where it was made; which types they are stored in."""

    value: Tensor
    tuned: Tensor
    base: Tensor
    stored: tuple[torch.dtype, torch.dtype]

    @property
    def thin(self) -> Thin:
        return dense_thin(self.value, tuple(self.value.shape))

    def noise(self) -> Noise:
        """The noise of both weights' rounding, each to the precision that its own numbers tell."""
        found = [_noise(weight.flatten(1), kind) for weight, kind in zip((self.tuned, self.base), self.stored)]
        return noise_of_difference(*found)


def _noise(weight: Tensor, stored: torch.dtype) -> Noise:
    kind = precision_of(weight, stored)
    return rounding_noise(weight, kind, 1 if kind.itemsize <= 2 else _STEPS_OF_FP32)


def _change(models: Pair, key: str, device: torch.device | None) -> _Change | None:
    """What a weight changes by; None where it is equal in both."""
    base, tuned = models.base.read(key), models.tuned.read(key)
    sides = ((models.tuned, tuned), (models.base, base))
    kinds = [model.stored(key) if model.stored else own.dtype for model, own in sides]
    if base.dtype == tuned.dtype and base.device == tuned.device and torch.equal(base, tuned):
        return None
    tuned = tuned.to(device or tuned.device).float()
    base = base.to(tuned.device).float()
    change = tuned - base
    size = frobenius(change)
    if not math.isfinite(size):
        bad = models.tuned if not tuned.isfinite().all() else models.base
        raise LoRAError(f"{key} of {bad.name} holds NaN or infinity: the model is broken, get another copy")
    return _Change(change, tuned, base, (kinds[0], kinds[1])) if size else None


def _of_layer(
    models: Pair, key: str, rule: Rule, dtype: torch.dtype, device: torch.device | None, rank: int | None
) -> Found:
    """The LoRA of one weight, at the rank of the rule or at a given one."""
    found = _change(models, key, device)
    if found is None:
        return Found(key, why=EQUAL)
    thin = found.thin
    noise = found.noise() if rule.name == AUTOMATIC else None
    side = min(thin.up.shape[0], thin.down.shape[1])
    if rank is not None and rank:
        rule = Rule("rank", rank)
    spectrum = spectrum_by(rule, thin, noise)
    own = rank_by(rule, spectrum.s, spectrum.energy, noise) if rank is None else rank
    size, base = math.sqrt(spectrum.energy), frobenius(found.tuned)
    if not own:
        layer = CutLayer(key, side, 0, size, 1.0, base)
        return Found(key, None, layer, ROUNDING if rank is None else "the file size leaves no room for it")
    adapter = adapter_of(spectrum.cut(own), dtype)
    error = _lost(thin.matrix(), stored(adapter, thin.shape)) / size
    capped = rule.name != "rank" and rule.most is not None and own == rule.most < side
    return Found(key, adapter, CutLayer(key, side, own, size, error, base), capped=capped)


def _lost(change: Tensor, written: Thin) -> float:
    """The norm of what is not in the written factors, with a few rows of their product at a time. [out, in]"""
    up, down = written.up.to(change), written.down.to(change)
    rows = max(1, _PIECE // change.shape[1])
    parts = zip(change.split(rows), up.split(rows))
    return math.sqrt(math.fsum(frobenius(own - part @ down) ** 2 for own, part in parts))


def _of_vector(models: Pair, key: str, dtype: torch.dtype, written: bool) -> Found:
    """The difference of a norm, a bias or an embedding as it is."""
    found = _change(models, key, None)
    if found is None:
        return Found(key, why=EQUAL)
    if not written:
        return Found(key, why=_LISTED)
    value = found.value.to(dtype)
    if not value.isfinite().all():
        kind = str(dtype).removeprefix("torch.")
        raise LoRAError(f"the difference of {key} holds numbers that {kind} cannot: write the file as bf16 or fp32")
    return Found(key, Difference(value.cpu()))


def _ranks(
    models: Pair,
    rule: Rule,
    dtype: torch.dtype,
    with_vectors: bool,
    spell: Spell | None,
    device: torch.device | None,
    on_step: Callable[[int], None],
) -> dict[Place, int]:
    """The ranks with which the file has the size of the rule."""
    if spell is None:
        raise LoRAError("the rule size needs to know what the adapters take in the file")
    shapes: dict[Place, tuple[int, ...]] = {key: tuple(models.base.shapes[key]) for key in models.weights}
    costs = costs_by_place(shapes, spell)
    shares: dict[Place, Share] = {}
    for done, key in enumerate(_largest_first(models), 1):
        found = _change(models, key, device)
        if found is not None and costs[key][0]:
            spectrum = spectrum_by(rule, found.thin)
            kept = spectrum.s[: rank_by(rule, spectrum.s, spectrum.energy)]
            shares[key] = Share(kept, costs[key][0] * dtype.itemsize, costs[key][1])
        on_step(done)
    vectors = [_of_vector(models, key, dtype, with_vectors) for key in models.vectors]
    others: dict[Place, Adapter] = {one.key: one.adapter for one in vectors if one.adapter is not None}
    return ranks_of_size(shapes, shares, rule, spell, dtype, others)
