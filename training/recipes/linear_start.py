"""Where the bundled autoencoder starts: as a linear one, whose latent is the mean colour of each cell.

A deep network with random weights takes a thousand steps to find out that much. All residual branches start at zero;
the convolutions between them carry red, green and blue. Group norms of three channels (of width 96) keep a colour
exactly if the channels are (x, -x, constant): the constant fixes the deviation, and silu(u) - silu(-u) = u. Groups of
one or two channels cannot, for a flat picture loses one number or both to mean and deviation: the last level of the
encoder and the first of the decoder must be 96 wide or more.
"""

import torch
from torch import Tensor, nn

from ...vae_core.config import NORM_GROUPS
from ...vae_core.networks.kl import AutoencoderKL

_CONSTANT = 4.0  # large beside colours, which are -1..1
_LATENT_SCALE = 1.6  # brings the deviation of colours near 1
_RANDOM = 0.1  # what is left of torch's own random weights, for the rest of the network to grow from
_START_LOGVAR = -6.0  # deviation 0.05: at 1, the noise would drown the latent
_DEVIATION = (_CONSTANT**2 * 2 / 9 + 0.2) ** 0.5  # of (x, -x, constant), where x is about 0.55


def start_linear_(model: AutoencoderKL) -> AutoencoderKL:
    """Set the weights in place; those of the branches' first convolutions stay random."""
    encoder, decoder, latent = model.encoder, model.decoder, model.config.latent
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(("conv2", "attn_1.proj_out")):
                module.weight.zero_()
                module.bias.zero_()
        _colour_in_(encoder.conv_in, torch.eye(3))
        width = encoder.conv_in.out_channels
        for level in encoder.down:
            width = _through_(level, width, "downsample")
        _colour_out_(encoder, _LATENT_SCALE)
        for convolution, start in ((model.quant_conv, 0.0), (model.post_quant_conv, 0.0)):
            convolution.weight.copy_(torch.eye(convolution.out_channels)[..., None, None])
            convolution.bias.fill_(start)
        model.quant_conv.weight[latent:] *= 0.1
        model.quant_conv.bias[latent:] = _START_LOGVAR
        _colour_in_(decoder.conv_in, torch.eye(3, latent) / _LATENT_SCALE)
        width = decoder.conv_in.out_channels
        for level in reversed(decoder.up):
            width = _through_(level, width, "upsample")
        _colour_out_(decoder, 1.0)
    return model


def carriers(width: int) -> tuple[Tensor, Tensor]:
    """How a stream of `width` channels carries colour: channel = matrix @ rgb + constant. [width, 3], [width]"""
    matrix, constant = torch.zeros(width, 3), torch.zeros(width)
    group = width // NORM_GROUPS
    for channel in range(width):
        number, place = divmod(channel, group)
        if group < 3:
            matrix[channel, channel % 3] = 1.0 if channel // 3 % 2 else -1.0
        elif place < 2:
            matrix[channel, number % 3] = 1.0 if place == 0 else -1.0
        elif place == 2:
            constant[channel] = _CONSTANT
    return matrix, constant


def _through_(level: nn.Module, width: int, resample: str) -> int:
    """Colour through the shortcuts and the change of size of one level; returns its width."""
    for block in level.block:
        if hasattr(block, "nin_shortcut"):
            convolution = block.nin_shortcut
            _map_(convolution, width, convolution.out_channels, ((0, 0),))
            width = convolution.out_channels
    if hasattr(level, resample):
        taps = ((0, 0), (0, 1), (1, 0), (1, 1)) if resample == "downsample" else ((1, 1),)
        _map_(getattr(level, resample).conv, width, width, taps)
    return width


def _map_(convolution: nn.Conv2d, before: int, after: int, taps: tuple[tuple[int, int], ...]) -> None:
    """The stream of one width to that of another, the mean over `taps`."""
    (old, old_constant), (new, new_constant) = carriers(before), carriers(after)
    matrix = new @ torch.linalg.pinv(old)
    convolution.weight *= _RANDOM
    for row, column in taps:
        convolution.weight[:, :, row, column] += matrix / len(taps)
    convolution.bias.copy_(new_constant - matrix @ old_constant)


def _colour_in_(convolution: nn.Conv2d, colour: Tensor) -> None:
    """The first convolution: what comes in, through `colour` [3, in], becomes the stream."""
    matrix, constant = carriers(convolution.out_channels)
    convolution.weight *= _RANDOM
    convolution.weight[:, :, 1, 1] += matrix @ colour
    convolution.bias.copy_(constant)


def _colour_out_(half: nn.Module, scale: float) -> None:
    """The last norm and convolution of the encoder or decoder: out of the stream's pairs, colours times `scale`."""
    width = half.norm_out.num_channels
    group = width // NORM_GROUPS
    if group != 3:
        raise ValueError(f"the last norm is {width} wide: a linear start needs {3 * NORM_GROUPS}")
    half.norm_out.bias.fill_(_CONSTANT / 3 / _DEVIATION)
    matrix, _ = carriers(width)  # [width, 3]
    half.conv_out.weight *= _RANDOM / 3
    half.conv_out.bias.zero_()
    half.conv_out.weight[:3, :, 1, 1] += scale * _DEVIATION * 2 * (matrix / matrix.square().sum(dim=0)).T
