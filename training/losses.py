"""The two objectives: the symmetric contrastive loss and the variational autoencoder's."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..vae_core.posterior import doubled_divergence

LARGEST_SCALE = math.log(100.0)  # the temperature is "clipped to prevent scaling the logits by more than 100"


def contrastive_loss(
    image_features: Tensor, text_features: Tensor, logit_scale: Tensor, fits: Tensor | None = None
) -> Tensor:
    """Symmetric cross-entropy of each picture among the texts and each text among the pictures, in nats.

    Radford et al., arXiv 2103.00020, figure 3 and section 2.5. Row i of the pictures belongs to row i of the texts.

    Args:
        logit_scale: logarithm of the factor on the cosines; used as at most ln 100.
        fits: [B, B] bool, text j is true of picture i; true pairs off the diagonal are left out of both sums,
            for they are no mistakes ("a red shape" fits many pictures). None: only the diagonal fits.
    Shapes: [B, E], [B, E], [] -> []
    """
    if image_features.shape != text_features.shape:
        raise ValueError(
            f"expected as many texts as pictures, in the same space, but got {list(image_features.shape)} "
            f"and {list(text_features.shape)}"
        )
    images = functional.normalize(image_features.float(), dim=-1)
    texts = functional.normalize(text_features.float(), dim=-1)
    logits = logit_scale.float().clamp(max=LARGEST_SCALE).exp() * images @ texts.T  # [B, B]
    if fits is not None:
        others = fits & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(others, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def choice_loss(images: Tensor, right: Tensor, wrong: Tensor, logit_scale: Tensor) -> Tensor:
    """Cross-entropy of each picture between two texts of its own, a right and a wrong one, in nats.

    [B, E], [B, E], [B, E], [] -> []
    """
    images, right, wrong = (functional.normalize(rows.float(), dim=-1) for rows in (images, right, wrong))
    lead = (images * (right - wrong)).sum(dim=-1)  # [B]
    return functional.softplus(-logit_scale.float().clamp(max=LARGEST_SCALE).exp() * lead).mean()


def fact_loss(logits: Tensor, facts: Tensor, sizes: tuple[int, ...], named: Tensor) -> Tensor:
    """Cross-entropy of every fact, read off one row of logits that holds the values of all facts one after another.

    Args:
        facts: [B, F], which value each fact has.
        sizes: how many values each fact has; they sum to the logits' width.
        named: [B, F] bool, the facts that count (those that a caption names, or a picture shows).
    Shapes: [B, sum of sizes] -> [], in nats for each fact
    """
    if logits.shape[1] != sum(sizes) or facts.shape[1] != len(sizes):
        raise ValueError(
            f"expected {sum(sizes)} logits and {len(sizes)} facts, but got {logits.shape[1]} and {facts.shape[1]}"
        )
    each = torch.stack(
        [
            functional.cross_entropy(part, facts[:, place], reduction="none")
            for place, part in enumerate(logits.float().split(sizes, dim=1))
        ],
        dim=1,
    )  # [B, F]
    return each[named].mean()


@dataclass(frozen=True)
class VAELoss:
    """`total` = `absolute` + edge_weight * `edges` + kl_weight * `kl`; all scalars."""

    total: Tensor
    absolute: Tensor  # mean |difference| of the values, -1..1
    edges: Tensor  # mean |difference| of neighbouring values' differences
    kl: Tensor  # nats for each value of the latent


def divergence_of_channels(mean: Tensor, logvar: Tensor) -> Tensor:
    """Divergence of normal distributions from the unit normal, in nats for each value, the mean of each channel.

    Shapes: [B, C, h, w] twice -> [C], float32
    """
    return 0.5 * doubled_divergence(mean.float(), logvar.float()).mean(dim=(0, 2, 3))


def absolute_error(error: Tensor) -> Tensor:
    """Mean absolute error. Any shape -> []"""
    return error.abs().mean()


def edge_error(error: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours, across and down. [B, C, H, W] -> []"""
    return (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2


def vae_loss(
    pixels: Tensor,
    reconstruction: Tensor,
    kl: Tensor,
    *,
    kl_weight: float,
    edge_weight: float = 0.0,
    free_nats: float = 0.0,
) -> VAELoss:
    """Reconstruction error plus the weighted divergence of the posterior from the unit normal (arXiv 1312.6114).

    Args:
        kl: [C] nats for each value of each channel (`divergence_of_channels`), so that the weight means the same at
            every size of picture.
        edge_weight: weight of the error of horizontal and vertical differences, which keeps edges sharp.
        free_nats: what each channel may diverge for nothing: a channel below it is not pushed to nothing
            (arXiv 1606.04934, appendix C8).
    Shapes: [B, 3, H, W] twice, [C] -> scalars
    """
    if pixels.shape != reconstruction.shape:
        raise ValueError(f"the reconstruction is {list(reconstruction.shape)} but the picture is {list(pixels.shape)}")
    error = reconstruction.float() - pixels.float()
    absolute, edges = absolute_error(error), edge_error(error)
    divergence = kl.float().clamp(min=free_nats).mean()
    return VAELoss(absolute + edge_weight * edges + kl_weight * divergence, absolute, edges, divergence)
