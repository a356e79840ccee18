"""Encoded prompts joined and compared: tensors [B, T, C], a vector of C numbers for each of T tokens.

`average` computes what ComfyUI's ConditioningAverage does (nodes.py, 0.33.0: to * strength + from * (1 - strength)),
which cuts the second to the first's length. Nothing is cut here: the shorter one is padded with zeros, and the result
has the padding's lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

Weighted = tuple[Tensor, float]


@dataclass(frozen=True)
class Joined:
    """Several encodings as one, and the tokens of zeros that pad each to the same length."""

    hidden: Tensor  # [B, T, C]
    padded: tuple[int, ...]


def concat(parts: Sequence[Weighted]) -> Joined:
    """Concatenate encodings along the tokens, each times its weight.

    [B, T1, C], [B, T2, C], ... -> [B, T1 + T2 + ..., C]

    Raises:
        ValueError: no parts, a part that is not [B, T, C], or different batches or widths.
    """
    _check([hidden for hidden, _ in parts])
    device = parts[0][0].device
    return Joined(torch.cat([_wide(hidden).to(device) * weight for hidden, weight in parts], 1), (0,) * len(parts))


def add(parts: Sequence[Weighted]) -> Joined:
    """Add encodings, each times its weight. Shorter ones are padded with zeros.

    [B, T1, C], [B, T2, C], ... -> [B, max(T1, T2, ...), C]. Raises as `concat` does.
    """
    _check([hidden for hidden, _ in parts])
    length = max(hidden.shape[1] for hidden, _ in parts)
    padded = tuple(length - hidden.shape[1] for hidden, _ in parts)
    long = [(pad(_wide(hidden), (0, 0, 0, more)), weight) for (hidden, weight), more in zip(parts, padded)]
    return Joined(mixed(long), padded)


def average(first: Tensor, second: Tensor, weight: float) -> Joined:
    """(1 - weight) * first + weight * second; the shorter one is padded with zeros. Raises as `concat` does."""
    return add([(first, 1.0 - weight), (second, weight)])


def mixed(parts: Sequence[Weighted]) -> Tensor:
    """Add tensors of one shape, at least one, each times its weight, from left to right, on the first one's device.

    Raises:
        ValueError: their shapes differ.
    """
    shapes = [list(tensor.shape) for tensor, _ in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"tensors of one shape were expected, but these are {_words(shapes)}: they come from different text "
            "encoders; encode both prompts with the same CLIP"
        )
    first, first_weight = parts[0]
    total = torch.mul(_wide(first), first_weight)
    for tensor, weight in parts[1:]:
        total = total + torch.mul(_wide(tensor).to(first.device), weight)
    return total


def _wide(tensor: Tensor) -> Tensor:
    """Numbers of eight bits as float32: torch does not compute with them."""
    return tensor.float() if tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1 else tensor


def join_masks(parts: Sequence[tuple[Tensor | None, int]], *, one_behind_other: bool) -> Tensor | None:
    """Join the attention masks as the tokens were joined. A part without a mask counts as one with all tokens unmasked.

    (mask [B, T] or None, its T) ... -> [B, T1 + T2 + ...], or for mixed tokens [B, max(T1, T2, ...)], in which a
    position is unmasked if any part's mask has it; None if no part has a mask.

    Raises:
        ValueError: a mask of another length than its tokens.
    """
    known = next((mask for mask, _ in parts if mask is not None), None)
    if known is None:
        return None
    for mask, tokens in parts:
        if mask is not None and list(mask.shape) != [known.shape[0], tokens]:
            raise ValueError(
                f"an attention mask of shape {[known.shape[0], tokens]} was expected, one number for each token, but "
                f"this one is {list(mask.shape)}; encode the prompt again"
            )
    masks = [known.new_ones(known.shape[0], tokens) if mask is None else mask.to(known) for mask, tokens in parts]
    if one_behind_other:
        return torch.cat(masks, 1)
    length = max(tokens for _, tokens in parts)
    return torch.stack([pad(mask, (0, length - mask.shape[1])) for mask in masks]).amax(0)


@dataclass(frozen=True)
class Comparison:
    """Two encodings compared over the tokens that both have; float64 on the CPU.

    A token's vector of zeros, or with NaN or infinite numbers, has no direction, and its cosine is NaN.
    """

    cosine: Tensor  # [B, T] of the T common tokens, -1..1
    norms: tuple[Tensor, Tensor]  # [B, T1], [B, T2]: the Euclidean length of every token's vector
    largest_difference: float  # of any number of the common tokens; NaN where one is NaN
    identical: bool  # the same shape, dtype and bits
    broken: tuple[int, int]  # tokens with NaN or infinite numbers in each

    @property
    def ratio(self) -> Tensor:
        """The second's length divided by the first's, [B, T]; NaN or infinite where the first's is zero."""
        common = self.cosine.shape[1]
        return self.norms[1][:, :common] / self.norms[0][:, :common]


def compare(first: Tensor, second: Tensor) -> Comparison:
    """Compare direction and length of each token's vector. [B, T1, C] and [B, T2, C]. Raises as `concat` does."""
    _check([first, second])
    one, other = (hidden.detach().cpu().double() for hidden in (first, second))
    norms = one.norm(dim=-1), other.norm(dim=-1)  # [B, T1], [B, T2]
    common = min(one.shape[1], other.shape[1])
    a, b = one[:, :common], other[:, :common]  # [B, T, C]
    cosine = (a * b).sum(-1) / (norms[0][:, :common] * norms[1][:, :common])
    difference = (a - b).abs()
    return Comparison(
        cosine.clamp(-1, 1),
        norms,
        float(difference.max()) if difference.numel() else 0.0,
        same_bits(first, second),
        (broken_tokens(one), broken_tokens(other)),
    )


def broken_tokens(hidden: Tensor) -> int:
    """The number of tokens with NaN or infinite numbers. [B, T, C]"""
    return int((~hidden.isfinite().all(-1)).sum())


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same shape, dtype and bits: 0.0 and -0.0 differ, a NaN equals the same NaN."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    a, b = (tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second))
    return torch.equal(a, b)


def same(first: object, second: object) -> bool:
    """Whether two options of a CONDITIONING are equal. An object of an unknown kind equals itself alone."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return same_bits(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple) and type(first) is type(second):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, str | int | float) and isinstance(second, str | int | float):
        return first == second
    return first is second


def _check(tensors: Sequence[Tensor]) -> None:
    shapes = [list(tensor.shape) for tensor in tensors]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        raise ValueError(
            f"encoded prompts of shape [batch, tokens, width] were expected, but {_words(shapes) or 'none'} came; "
            "connect a node that encodes text"
        )
    if len({shape[2] for shape in shapes}) > 1:
        widths = " and ".join(str(shape[2]) for shape in shapes)
        raise ValueError(
            f"encoded prompts of one width were expected, but these are {widths} wide: they are for different models; "
            "encode both with the same CLIP"
        )
    if len({shape[0] for shape in shapes}) > 1:
        batches = " and ".join(str(shape[0]) for shape in shapes)
        raise ValueError(
            f"encoded prompts of one batch size were expected, but these have {batches}; encode as many prompts for "
            "each"
        )


def _words(shapes: Sequence[list[int]]) -> str:
    return " and ".join(map(str, shapes))
