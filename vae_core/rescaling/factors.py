"""An AutoencoderKL whose numbers grow too large for fp16, with the same outputs from smaller ones.

Every reader of the residual stream is a group norm, which forgets the size of its input, or a convolution without an
activation, which only passes it on. So what writes into the stream can be divided by a power of two, and what reads it
without a norm multiplied: exact in every type but for the norms' small constant, which is measured. The same holds for
what lies between the two convolutions of a block, and for the values of an attention. That SDXL's VAE overflows so was
found by madebyollin (huggingface.co/madebyollin/sdxl-vae-fp16-fix), whose file was made by training.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import Attention, ResidualBlock
from ..networks.kl import AutoencoderKL
from ..networks.kl_halves import Decoder, Encoder

LARGEST = 65504.0  # of fp16
ROOMS = (16.0, 8.0, 4.0, 2.0)  # times smaller than that the numbers are made, for other pictures have larger ones
EXACT = 1e-5  # of the largest number of an output: what the norms' constant may change
Largest = dict[str, float]


@dataclass(frozen=True, eq=False)
class Rescaled:
    """The result of a rescaling.

    state: the network's tensors. largest: the largest number that each part makes, as it was. factors: of each part,
    the power of two by which its numbers are multiplied; those that stay are not in it.
    """

    state: dict[str, Tensor]
    largest: Largest
    factors: dict[str, float]

    @property
    def before(self) -> float:
        """The largest number of all parts, as it was."""
        return max(self.largest.values(), default=0.0)

    @property
    def after(self) -> float:
        """The largest number of all parts by the factors."""
        return max((size * self.factors.get(part, 1.0) for part, size in self.largest.items()), default=0.0)


def fitted(
    network: AutoencoderKL, state: Mapping[str, Tensor], run: Callable[[], Sequence[Tensor]]
) -> tuple[Rescaled, float]:
    """Rescale a network with as much room as its outputs allow, and measure how far they move.

    Args:
        network: in float32 with these weights, which are replaced by the new ones.
        state: its tensors as they are stored.
        run: the outputs of both halves for some pictures.

    Returns:
        the result, and the largest difference over the largest number of that output.
    """
    own: list[Tensor] = []
    largest = measured(network, lambda: own.extend(run()))
    for room in ROOMS:
        found = rescale(network, state, largest, room)
        if not found.factors:
            return found, 0.0
        network.load_state_dict(found.state)
        apart = [(one - was).abs().amax() / was.abs().amax() for one, was in zip(run(), own)]
        moved = torch.stack(apart).amax().item()
        if moved <= EXACT:
            break
    return found, moved


def rescale(
    network: AutoencoderKL, state: Mapping[str, Tensor], largest: Mapping[str, float], room: float = ROOMS[0]
) -> Rescaled:
    """Rescale makes every number that a network computes small enough for fp16.

    Args:
        network: with both halves or one of them; only its structure counts.
        state: its tensors by name, of any floating type, which the new ones have too.
        largest: of `measured`.
        room: times smaller than the largest number of fp16 that each becomes.

    >>> from clip_vae_lora.vae_core.config import VAEConfig
    >>> config = VAEConfig(32, (1,), 1, 4, False)
    >>> net = AutoencoderKL(config, encoder=False)
    >>> sizes = {part: 1e6 if part == "decoder.up.0.block.1.conv1" else 1.0 for part in parts_of(net)}
    >>> rescale(net, net.state_dict(), sizes).factors
    {'decoder.up.0.block.1.conv1': 0.00390625}
    """
    made = {name: tensor.clone() for name, tensor in state.items()}
    factors: dict[str, float] = {}

    def mark(part: str, factor: float) -> None:
        if factor != 1.0:
            factors[part] = factor

    def write(part: str, factor: float, came: float = 1.0) -> None:
        """Multiply what a convolution writes, whose input is already multiplied by `came`."""
        mark(part, factor)
        for name, by in ((f"{part}.weight", factor / came), (f"{part}.bias", factor)):
            if by != 1.0 and name in made:
                made[name] = made[name] * by

    sizes = {part: size * room / LARGEST for part, size in largest.items()}
    for half in _halves(network):
        _rescale_half(half, sizes, write, mark)
    return Rescaled(made, dict(largest), factors)


def measured(network: AutoencoderKL, run: Callable[[], object]) -> Largest:
    """The largest absolute numbers that the parts of a network make while `run` runs it, by their names."""
    found: dict[str, Tensor] = {}
    with _watched(network, found):
        run()
    if not found:
        return {}
    names = list(found)
    return dict(zip(names, torch.stack([found[name].float() for name in names]).tolist()))


def parts_of(network: AutoencoderKL) -> list[str]:
    """The names of the parts whose numbers `measured` looks at."""
    return [name for name, _ in _looked_at(network)]


@dataclass(frozen=True)
class _Half:
    """A half as its steps, from the picture or the latent on; names as in the state."""

    first: str
    steps: tuple[tuple[str, nn.Module], ...]


def _halves(network: AutoencoderKL) -> Iterator[_Half]:
    names = {module: name for name, module in network.named_modules()}
    for half in (network.encoder, network.decoder):
        if half is not None:
            yield _Half(names[half.conv_in], tuple((names[step], step) for step in _steps(half)))


def _steps(half: Encoder | Decoder) -> list[nn.Module]:
    """The steps through which the stream goes, between the first convolution and the last norm."""
    middle = [half.mid.block_1, half.mid.attn_1, half.mid.block_2]
    if isinstance(half, Encoder):
        return [step for level in half.levels for step in level.steps] + middle
    return middle + [step for level in reversed(half.levels) for step in level.steps]


def _rescale_half(
    half: _Half, sizes: Mapping[str, float], write: Callable[..., None], mark: Callable[[str, float], None]
) -> None:
    """Give each stretch of the stream, in which every step adds to what came, the factor of its largest number."""
    stretches: list[tuple[list[tuple[str, nn.Module]], list[str]]] = [([], [half.first])]
    for name, step in half.steps:
        if _begins(step):
            stretches.append(([], []))
        stretches[-1][0].append((name, step))
        stretches[-1][1].extend(_writers(name, step))
    came = 1.0
    for steps, writers in stretches:
        factor = _factor(sizes, [*writers, *(name for name, _ in steps)])
        if not steps or not _begins(steps[0][1]):
            write(half.first, factor)
        for name, step in steps:
            _rescale_step(name, step, sizes, factor, came, write)
            mark(name, factor)
        came = factor


def _begins(step: nn.Module) -> bool:
    """Whether nothing of a step's input is added as it is: a change of the width or of the size."""
    return not isinstance(step, Attention) and not (isinstance(step, ResidualBlock) and not _has_shortcut(step))


def _has_shortcut(block: nn.Module) -> bool:
    return hasattr(block, "nin_shortcut")


def _writers(name: str, step: nn.Module) -> list[str]:
    """The convolutions of a step that write into the stream."""
    if isinstance(step, ResidualBlock):
        return [f"{name}.conv2", *([f"{name}.nin_shortcut"] if _has_shortcut(step) else [])]
    return [f"{name}.proj_out" if isinstance(step, Attention) else f"{name}.conv"]


def _rescale_step(
    name: str, step: nn.Module, sizes: Mapping[str, float], factor: float, came: float, write: Callable[..., None]
) -> None:
    if isinstance(step, ResidualBlock):
        write(f"{name}.conv1", _factor(sizes, [f"{name}.conv1"]))
        write(f"{name}.conv2", factor)
        if _has_shortcut(step):
            write(f"{name}.nin_shortcut", factor, came)
    elif isinstance(step, Attention):
        values = _factor(sizes, [f"{name}.v"])
        write(f"{name}.v", values)
        write(f"{name}.proj_out", factor, values)
    else:
        write(f"{name}.conv", factor, came)


def _factor(sizes: Mapping[str, float], parts: Iterable[str]) -> float:
    """The power of two that makes the largest number of these parts small enough, which is 1; 1 where it is."""
    size = max((sizes.get(part, 0.0) for part in parts), default=0.0)
    return 2.0 ** -math.ceil(math.log2(size)) if size > 1 and math.isfinite(size) else 1.0


def _looked_at(network: AutoencoderKL) -> list[tuple[str, nn.Module]]:
    """Every convolution, and the steps that add to the stream."""
    kinds = (nn.Conv2d, ResidualBlock, Attention)
    return [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]


@contextmanager
def _watched(network: AutoencoderKL, found: dict[str, Tensor]) -> Iterator[None]:
    """Keep the largest number of each part's results; nothing waits for the device."""

    def look(name: str) -> Callable[[nn.Module, Sequence[object], Tensor], None]:
        def hook(_: nn.Module, __: Sequence[object], result: Tensor) -> None:
            size = result.detach().abs().amax()
            found[name] = torch.maximum(found[name], size) if name in found else size

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in _looked_at(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
