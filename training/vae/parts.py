"""Which of a VAE's numbers belong to its decoder and which to its encoder, told by their names in our networks."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from ...vae_core.tiling.network import VAENetwork
from ..state import TrainingError

_DECODER = ("post_quant_conv.", "decoder.", "taesd_decoder.")
_ENCODER = ("quant_conv.", "encoder.", "taesd_encoder.")
DECODER, BOTH = "decoder", "decoder and encoder"
PARTS = (DECODER, BOTH)  # what can learn


def is_decoder(name: str) -> bool:
    """Whether a number of this name turns latents into pictures and nothing else."""
    return name.startswith(_DECODER)


def is_encoder(name: str) -> bool:
    """Whether a number of this name turns pictures into latents and nothing else."""
    return name.startswith(_ENCODER)


def learns(name: str, part: str) -> bool:
    """Whether a number of this name learns; post_quant_conv is the decoder's and quant_conv the encoder's."""
    return is_decoder(name) or (part == BOTH and is_encoder(name))


def learning(network: VAENetwork, part: str) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: one for name, one in network.named_parameters() if learns(name, part)}


def only_learning(network: VAENetwork, names: Iterable[str]) -> None:
    """Let gradients reach these parameters alone."""
    chosen = set(names)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in chosen)


def last_weight(network: VAENetwork) -> Tensor:
    """The weight of the convolution that makes the pixels, the decoder's last one."""
    found = [part for part in network.half_for("decode").modules() if isinstance(part, nn.Conv2d)]
    if not found:
        raise TrainingError(
            f"a decoder of convolutions was expected, and this {network.title} has none: train another VAE"
        )
    return found[-1].weight


def encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What decides the latents: all that is not the decoder's, so that statistics and scales are among it."""
    return {name: tensor for name, tensor in state.items() if not is_decoder(name)}
