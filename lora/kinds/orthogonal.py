"""Adapters that turn a weight's rows or columns: OFT (arXiv:2306.07280) and BOFT (arXiv:2311.06243).

A rotation is the Cayley transform of a skew matrix Q. LyCORIS (modules/diag_oft.py, boft.py) and kohya
(networks/oft.py) turn the output side; PEFT (tuners/oft) and OneTrainer (modules/module/oft_utils.py) the input side.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from .adapters import ConfigFacts, LoRAError, fitting_weight


def _rotations(blocks: Tensor, limit: float) -> Tensor:
    """(I + Q)(I - Q)^-1 of Q = blocks - blocks^T, whose norm over all blocks is held to `limit` where that is > 0.

    [..., n, n] -> [..., n, n]
    """
    skew = blocks.float()
    skew = skew - skew.mT
    if limit > 0:
        norm = torch.linalg.vector_norm(skew) + 1e-8  # LyCORIS' own guard
        skew = skew * (limit / norm).clamp(max=1)
    eye = torch.eye(skew.shape[-1], device=skew.device, dtype=torch.float32)
    return _solve(eye - skew, eye + skew)  # the two factors commute, so the side does not matter


def _solve(left: Tensor, right: Tensor) -> Tensor:
    """left^-1 @ right. I + Q and I - Q of a skew Q always have inverses, so the CPU does not wait for a check."""
    return torch.linalg.solve_ex(left, right).result


@dataclass(frozen=True, eq=False)
class OFT:
    """The weight's rows, in blocks of n, are turned: W' = rescale * (R^T W), R from `blocks` [k, n, n], k * n = out.

    alpha > 0 limits the norm of Q to alpha * out, as LyCORIS and kohya train it. At strength t the rotation is
    I + t (R - I), as both define it, and the rescaling 1 + t (rescale - 1), so that 0 changes nothing. Four dimensions
    [m, k, b, b] are BOFT: m stages, each over rows dealt like a butterfly, each at strength t. rescale [out, 1, ...].

    ComfyUI: limit alpha instead of alpha * out; OFT without rescaling; the result times t once more.

    Raises:
        LoRAError: blocks that are not square, or that no butterfly has, or an alpha that is not a number.
    """

    blocks: Tensor
    alpha: float = 0.0
    rescale: Tensor | None = None
    needs_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        shape = list(self.blocks.shape)
        if len(shape) not in (3, 4) or shape[-1] != shape[-2] or not self.blocks.numel():
            raise LoRAError(f"the blocks are {shape}: expected [k, n, n] for OFT or [m, k, b, b] for BOFT")
        if len(shape) == 4 and (shape[-1] % 2 or self.out % (2 ** (shape[0] - 1) * shape[-1])):
            raise LoRAError(f"the blocks are {shape}: {self.out} rows cannot be dealt in {shape[0]} butterfly stages")
        if not math.isfinite(self.alpha):
            raise LoRAError(f"alpha is {self.alpha}: expected a finite number")
        if self.rescale is not None and self.rescale.numel() != self.out:
            raise LoRAError(f"rescale is {list(self.rescale.shape)} for {self.out} rows")

    @property
    def kind(self) -> str:
        return "OFT" if self.blocks.ndim == 3 else "BOFT"

    @property
    def out(self) -> int:
        return self.blocks.shape[-3] * self.blocks.shape[-1]

    @property
    def rank(self) -> int:
        return 0

    @property
    def extent(self) -> tuple[int, None]:
        return self.out, None

    def misfit(self, shape: Sequence[int]) -> str | None:
        if len(shape) >= 2 and shape[0] == self.out:
            return None
        return f"the adapter turns {self.out} rows, the model's weight has shape {list(shape)}"

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        weight, boft = fitting_weight(self, weight), self.blocks.ndim == 4
        turns = _rotations(self.blocks, self.alpha if match_comfyui else self.alpha * self.out).to(weight.device)
        eye = torch.eye(turns.shape[-1], device=weight.device, dtype=torch.float32)
        turns = eye + strength * (turns - eye)
        changed = _butterfly(turns, weight) if boft else _turn_rows(turns.mT, weight)
        if self.rescale is not None and (boft or not match_comfyui):
            part = 1.0 if match_comfyui else strength
            rows = 1 + part * (self.rescale.float().to(weight.device).flatten() - 1)
            changed = changed * rows.reshape(-1, *[1] * (weight.ndim - 1))
        return (changed - weight) * (strength if match_comfyui else 1.0)


def _turn_rows(turns: Tensor, weight: Tensor) -> Tensor:
    """Multiply every block of rows by its own matrix. [k, n, n] and [k * n, ...] -> [k * n, ...]"""
    rows = weight.reshape(turns.shape[0], turns.shape[1], -1)  # [k, n, in * kh * kw]
    return (turns @ rows).reshape(weight.shape)


def _butterfly(turns: Tensor, weight: Tensor) -> Tensor:
    """Stage i turns blocks of rows that lie 2^i * b / 2 apart. [m, k, b, b] and [out, ...] -> [out, ...]"""
    out, changed = weight.shape[0], weight.reshape(weight.shape[0], -1)
    for stage, turn in enumerate(turns):
        half = 2**stage * turn.shape[-1] // 2
        dealt = changed.reshape(-1, 2, half, changed.shape[1]).transpose(1, 2).reshape(out, -1)
        changed = _turn_rows(turn, dealt).reshape(-1, half, 2, changed.shape[1]).transpose(1, 2).reshape(out, -1)
    return changed.reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class InputOFT:
    """The weight's inputs, in blocks of n, are turned: W' = W R^T on the flat weight; PEFT's OFT and OneTrainer's.

    angles [k, n (n - 1) / 2] fill the upper triangle of Q, Q -= Q^T; k * n = in * kh * kw, or k = 1 for one block that
    is shared by all. With `terms` R is a Neumann series, I + 2Q + 2Q^2 + ... + Q^(terms - 1) (PEFT's default is 5);
    `terms` None is the exact Cayley transform, which PEFT writes with the other sign: (I - Q)(I + Q)^-1. OneTrainer
    turns convolutions the other way round, W R (`reverse_convolutions`); its scaled_oft divides the angles by
    `divisor`. At strength t the rotation is I + t (R - I). ComfyUI does not read this kind.

    Raises:
        LoRAError: a number of angles that no block size has, or no terms.
    """

    angles: Tensor
    terms: int | None = 5
    divisor: float = 1.0
    reverse_convolutions: bool = False
    kind: ClassVar[str] = "OFT of inputs"
    alpha: ClassVar[None] = None
    needs_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.angles.ndim != 2 or not self.angles.numel() or self.size * (self.size - 1) != 2 * self.angles.shape[1]:
            raise LoRAError(f"the angles are {list(self.angles.shape)}: expected [blocks, n * (n - 1) / 2]")
        if self.terms is not None and not 1 <= self.terms <= 100:
            raise LoRAError(f"a Neumann series of {self.terms} terms: expected 1 to 100")
        if not (math.isfinite(self.divisor) and self.divisor > 0):
            raise LoRAError(f"the angles are divided by {self.divisor}: expected a number above 0")

    @property
    def size(self) -> int:
        """The block size n, from n (n - 1) / 2 angles."""
        return (1 + math.isqrt(1 + 8 * self.angles.shape[1])) // 2

    @property
    def rank(self) -> int:
        return 0

    @property
    def extent(self) -> tuple[None, None]:
        return None, None

    def misfit(self, shape: Sequence[int]) -> str | None:
        blocks, inputs = self.angles.shape[0], math.prod(shape[1:])
        if len(shape) >= 2 and inputs % self.size == 0 and blocks in (1, inputs // self.size):
            return None
        return f"the adapter turns {blocks} blocks of {self.size} inputs, the model's weight has shape {list(shape)}"

    def delta(self, weight: Tensor | Sequence[int], strength: float = 1.0, *, match_comfyui: bool = False) -> Tensor:
        """See Adapter."""
        weight = fitting_weight(self, weight)
        flat = weight.reshape(weight.shape[0], -1, self.size)  # [out, k, n]
        eye = torch.eye(self.size, device=self.angles.device, dtype=torch.float32)
        move = (self._rotation() - eye).to(flat.device) * strength
        if not (self.reverse_convolutions and weight.ndim > 2):
            move = move.mT
        move = move.expand(flat.shape[1], -1, -1)
        return torch.einsum("okn,knm->okm", flat, move).reshape(weight.shape)

    def _rotation(self) -> Tensor:
        """[k, n (n - 1) / 2] -> [k, n, n]"""
        rows, columns = torch.triu_indices(self.size, self.size, 1, device=self.angles.device)
        skew = self.angles.new_zeros(self.angles.shape[0], self.size, self.size, dtype=torch.float32)
        skew[:, rows, columns] = self.angles.float() / self.divisor
        skew = skew - skew.mT
        eye = torch.eye(self.size, device=skew.device, dtype=torch.float32)
        if self.terms is None:
            return _solve(eye + skew, eye - skew)
        if self.terms < 3:
            return eye + 2.0 * (self.terms - 1) * skew
        total, power = eye + 2 * skew + 2 * skew @ skew, skew @ skew
        for _ in range(3, self.terms - 1):
            power = power @ skew
            total = total + 2 * power
        return total + power @ skew


def build_input_oft(name: str, parts: Mapping[str, Tensor], facts: ConfigFacts) -> InputOFT:
    """The OFT of PEFT where the module's name is PEFT's, else OneTrainer's, which turns convolutions the other way."""
    peft = "base_model.model." in name
    adapter = InputOFT(parts["angles"], facts.terms if peft else 5, reverse_convolutions=not peft)
    if "divisor" in parts and adapter.size > 1:
        adapter = replace(adapter, divisor=_onetrainers_divisor(adapter))
    return adapter


def marks_of_input_oft(name: str, adapter: InputOFT) -> dict[str, Tensor]:
    """The tensor with which OneTrainer marks divided angles."""
    scaled = adapter.size > 1 and adapter.divisor == _onetrainers_divisor(adapter)
    if adapter.terms != 5 or not adapter.reverse_convolutions or not (scaled or adapter.divisor == 1):
        raise LoRAError(f"{name} is PEFT's OFT, whose way to turn a weight kohya files cannot say")
    return {"oft_R.scaled_oft": torch.tensor(1.0)} if scaled else {}


def _onetrainers_divisor(adapter: InputOFT) -> float:
    return 2 * math.sqrt(adapter.size - 1)
