"""The bundled autoencoder starts as a linear one, whose latent is the mean colour of each cell.

A deep network with random weights takes a thousand steps to find out that much. All residual branches start at zero;
the convolutions between them carry red, green and blue. Group norms of three channels (of width 96) keep a colour
exactly if the channels are (x, -x, constant): the constant fixes the deviation, and silu(u) - silu(-u) = u. Groups of
one or two channels cannot, for a flat picture loses one number or both to mean and deviation: the last level of the
encoder and the first of the decoder must be 96 wide or more.

The channels of the latent that no colour needs start as random features of what the colours do not tell. Started at
nothing, they stay at nothing: their noise teaches the decoder to look away before the encoder has written anything.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...vae_core.config import NORM_GROUPS
from ...vae_core.layers import Level
from ...vae_core.networks.kl import AutoencoderKL, Decoder, Encoder

Part = TypeVar("Part", bound=nn.Module)

_CONSTANT = 4.0  # large beside colours, which are -1..1
_LATENT_SCALE = 1.6  # brings the deviation of colours near 1
_RANDOM = 0.1  # what is left of torch's own random weights, for the rest of the network to grow from
_DETAIL_GAIN = 10.0  # the branches start at zero, so that the stream holds little beside colours
_START_LOGVAR = -6.0  # deviation 0.05: at 1, the noise would drown the latent
_DEVIATION = (_CONSTANT**2 * 2 / 9 + 0.2) ** 0.5  # of (x, -x, constant), where x is about 0.55


def start_linear_(model: AutoencoderKL) -> AutoencoderKL:
    """Set the weights in place; those of the branches' first convolutions stay random."""
    encoder, decoder, latent = _of_kind(Encoder, model.encoder), _of_kind(Decoder, model.decoder), model.config.latent
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(("conv2", "attn_1.proj_out")):
                _start_at_zero_(_of_kind(nn.Conv2d, module))
        width = _colour_in_(encoder.conv_in, torch.eye(3))
        for level in encoder.down:
            width = _through_(level, width, "downsample")
        _colour_out_(encoder.norm_out, encoder.conv_out, _LATENT_SCALE)
        _detail_out_(encoder.conv_out, slice(3, latent))
        moments = _start_at_identity_(model.quant_conv)
        moments.weight[latent:] *= 0.1
        _bias_of(moments)[latent:] = _START_LOGVAR
        _start_at_identity_(model.post_quant_conv)
        width = _colour_in_(decoder.conv_in, torch.eye(3, latent) / _LATENT_SCALE)
        for level in reversed(decoder.up):
            width = _through_(level, width, "upsample")
        _colour_out_(decoder.norm_out, decoder.conv_out, 1.0)
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
    """Carry colour through the shortcuts and the change of size of one level; returns the level's width."""
    for block in _of_kind(Level, level).block:
        if hasattr(block, "nin_shortcut"):
            convolution = _of_kind(nn.Conv2d, block.nin_shortcut)
            _map_(convolution, width, convolution.out_channels, ((0, 0),))
            width = convolution.out_channels
    if hasattr(level, resample):
        taps = ((0, 0), (0, 1), (1, 0), (1, 1)) if resample == "downsample" else ((1, 1),)
        _map_(_of_kind(nn.Conv2d, getattr(level, resample).conv), width, width, taps)
    return width


def _map_(convolution: nn.Conv2d, before: int, after: int, taps: tuple[tuple[int, int], ...]) -> None:
    """Map the stream of one width to the stream of another, as the mean over `taps`."""
    (old, old_constant), (new, new_constant) = carriers(before), carriers(after)
    matrix = new @ torch.linalg.pinv(old)
    convolution.weight *= _RANDOM
    for row, column in taps:
        convolution.weight[:, :, row, column] += matrix / len(taps)
    _bias_of(convolution).copy_(new_constant - matrix @ old_constant)


def _colour_in_(first: nn.Module, colour: Tensor) -> int:
    """Make the first convolution write its input, through `colour` [3, in], into the stream; returns its width."""
    convolution = _of_kind(nn.Conv2d, first)
    matrix, constant = carriers(convolution.out_channels)
    convolution.weight *= _RANDOM
    convolution.weight[:, :, 1, 1] += matrix @ colour
    _bias_of(convolution).copy_(constant)
    return convolution.out_channels


def _colour_out_(last_norm: nn.Module, last: nn.Module, scale: float) -> None:
    """Make the last norm and convolution of a half read the stream's pairs as colours times `scale`."""
    norm, convolution = _of_kind(nn.GroupNorm, last_norm), _of_kind(nn.Conv2d, last)
    width = norm.num_channels
    group = width // NORM_GROUPS
    if group != 3:
        raise ValueError(f"the last norm is {width} wide: a linear start needs {3 * NORM_GROUPS}")
    norm.bias.fill_(_CONSTANT / 3 / _DEVIATION)
    matrix, _ = carriers(width)  # [width, 3]
    convolution.weight *= _RANDOM / 3
    _bias_of(convolution).zero_()
    convolution.weight[:3, :, 1, 1] += scale * _DEVIATION * 2 * (matrix / matrix.square().sum(dim=0)).T


def _detail_out_(last: nn.Module, channels: slice) -> None:
    """Make some outputs of the encoder's last convolution random features that colours and constants do not move."""
    convolution = _of_kind(nn.Conv2d, last)
    rows = torch.empty_like(convolution.weight[channels])  # [few, width, 3, 3]
    nn.init.kaiming_uniform_(rows, a=math.sqrt(5))  # as torch starts a convolution
    flat = rows.flatten(2)
    colours, _ = carriers(convolution.in_channels)  # [width, 3]
    flat = flat - colours @ (torch.linalg.pinv(colours) @ flat)
    flat = flat - flat.mean(dim=1, keepdim=True)
    convolution.weight[channels] = _DETAIL_GAIN * flat.unflatten(2, rows.shape[2:])


def _start_at_zero_(convolution: nn.Conv2d) -> None:
    convolution.weight.zero_()
    _bias_of(convolution).zero_()


def _start_at_identity_(module: object) -> nn.Conv2d:
    """Make a 1 x 1 convolution return its input; returns the convolution."""
    convolution = _of_kind(nn.Conv2d, module)
    convolution.weight.copy_(torch.eye(convolution.out_channels)[..., None, None])
    _bias_of(convolution).zero_()
    return convolution


def _bias_of(convolution: nn.Conv2d) -> Tensor:
    if convolution.bias is None:
        raise ValueError("a linear start needs convolutions with a bias, and this one has none")
    return convolution.bias


def _of_kind(kind: type[Part], part: object) -> Part:
    if not isinstance(part, kind):
        raise ValueError(f"a linear start needs a {kind.__name__} where this autoencoder has a {type(part).__name__}")
    return part
