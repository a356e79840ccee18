"""Files of LoRAs: the names of a model's modules in every dialect, with every kind of adapter."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Modules = Mapping[str, tuple[tuple[int, ...], bool]]
_RANK = 2


@dataclass(frozen=True)
class Dialect:
    """How a program names modules and which tensors it writes for each."""

    name: str
    prefix: str
    flat: bool
    kind: str


MODEL_DIALECTS = (
    Dialect("kohya", "lora_unet_", True, "down/up"),
    Dialect("kohya LoHa", "lora_unet_", True, "LoHa"),
    Dialect("diffusion_model A/B", "diffusion_model.", False, "A/B"),
    Dialect("diffusion_model down/up", "diffusion_model.", False, "down/up"),
    Dialect("diffusion_model LoKr", "diffusion_model.", False, "LoKr"),
    Dialect("diffusion_model diff", "diffusion_model.", False, "diff"),
    Dialect("transformer A/B", "transformer.", False, "A/B"),
    Dialect("transformer down/up", "transformer.", False, "down/up"),
    Dialect("transformer DoRA", "transformer.", False, "DoRA"),
    Dialect("bare A/B", "", False, "A/B"),
    Dialect("bare down/up", "", False, "down/up"),
    Dialect("bare .default", "", False, "default"),
    Dialect("base_model.model", "base_model.model.", False, "A/B"),
    Dialect("transformer.base_model.model", "transformer.base_model.model.", False, "A/B"),
    Dialect("unet", "unet.", False, "A/B"),
    Dialect("unet.base_model.model", "unet.base_model.model.", False, "A/B"),
    Dialect("lycoris LoKr", "lycoris_", True, "LoKr"),
    Dialect("lycoris down/up", "lycoris_", True, "down/up"),
    Dialect("lora_transformer", "lora_transformer_", True, "down/up"),
)


def written(modules: Modules, dialect: Dialect) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file that changes every module, and the file's name of each module."""
    tensors, names = {}, {}
    for name, (shape, biased) in modules.items():
        spelled = dialect.prefix + (name.replace(".", "_") if dialect.flat else name)
        names[name] = spelled
        for suffix, value in _KINDS[dialect.kind](name, shape, biased).items():
            tensors[f"{spelled}.{suffix}"] = value
    return tensors, names


def change(name: str, shape: tuple[int, ...], kind: str) -> Tensor | None:
    """The change that a file makes to a module's weight, in double precision; None where it needs the weight."""
    parts = {suffix: value.double() for suffix, value in _KINDS[kind](name, shape, False).items()}
    if kind in ("A/B", "default"):
        infix = ".default" if kind == "default" else ""
        return (parts[f"lora_B{infix}.weight"].flatten(1) @ parts[f"lora_A{infix}.weight"].flatten(1)).reshape(shape)
    if kind == "down/up":
        product = parts["lora_up.weight"].flatten(1) @ parts["lora_down.weight"].flatten(1)
        return product.reshape(shape) * (parts["alpha"] / _RANK)
    if kind == "LoHa":
        one = parts["hada_w1_a"] @ parts["hada_w1_b"]
        return (one * (parts["hada_w2_a"] @ parts["hada_w2_b"])).reshape(shape) * (parts["alpha"] / _RANK)
    if kind == "LoKr":
        first = parts["lokr_w1"].reshape(parts["lokr_w1"].shape + (1,) * (len(shape) - 2))
        return torch.kron(first, parts["lokr_w2"])
    return parts["diff"] if kind == "diff" else None


@lru_cache(maxsize=20_000)
def _random(name: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))) * 0.3


def _factors(name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    ones = (1,) * (len(shape) - 2)
    return _random(name + "down", _RANK, *shape[1:]), _random(name + "up", shape[0], _RANK, *ones)


def _a_b(name: str, shape, biased: bool, infix: str = "") -> dict[str, Tensor]:
    down, up = _factors(name, shape)
    return {f"lora_A{infix}.weight": down, f"lora_B{infix}.weight": up}


def _down_up(name: str, shape, biased: bool) -> dict[str, Tensor]:
    down, up = _factors(name, shape)
    return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.5)}


def _dora(name: str, shape, biased: bool) -> dict[str, Tensor]:
    ones = (1,) * (len(shape) - 1)
    return _down_up(name, shape, biased) | {"dora_scale": _random(name + "scale", shape[0], *ones).abs() + 5}


def _loha(name: str, shape, biased: bool) -> dict[str, Tensor]:
    inner = torch.Size(shape[1:]).numel()
    left = {f"hada_w{i}_a": _random(f"{name}{i}a", shape[0], _RANK) for i in (1, 2)}
    right = {f"hada_w{i}_b": _random(f"{name}{i}b", _RANK, inner) for i in (1, 2)}
    return left | right | {"alpha": torch.tensor(1.5)}


def _lokr(name: str, shape, biased: bool) -> dict[str, Tensor]:
    rows, columns = (2 if size % 2 == 0 else 1 for size in shape[:2])
    small = _random(name + "w2", shape[0] // rows, shape[1] // columns, *shape[2:])
    return {"lokr_w1": _random(name + "w1", rows, columns), "lokr_w2": small, "alpha": torch.tensor(1.0)}


def _diff(name: str, shape, biased: bool) -> dict[str, Tensor]:
    bias = {"diff_b": _random(name + "bias", shape[0])} if biased else {}
    return {"diff": _random(name + "diff", *shape), **bias}


_KINDS: dict[str, Callable[[str, tuple[int, ...], bool], dict[str, Tensor]]] = {
    "A/B": _a_b,
    "default": lambda name, shape, biased: _a_b(name, shape, biased, ".default"),
    "down/up": _down_up,
    "DoRA": _dora,
    "LoHa": _loha,
    "LoKr": _lokr,
    "diff": _diff,
}
