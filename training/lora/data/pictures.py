"""Pictures of a folder in the sizes they are trained at, and the masks that go with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from ....files.captioned.folder import Captioned, CaptionedFolder
from ....files.errors import FileFormatError
from ....files.images import read_image
from ...device import on_the_cpu
from ..course import Picture
from .buckets import fit, sizes

EncodeImage = Callable[[Tensor], Tensor]  # [1, H, W, 3] in 0..1 -> raw latent [1, C, ...]
OnStep = Callable[[int, int], None]
_MASK_FROM = 0.02  # share of a picture that has to be transparent for its alpha to be meant as a mask


@dataclass
class Prepared:
    """Pictures as latents, and what became of the others: name -> why it is not used."""

    pictures: list[Picture] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    without_caption: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)
    enlarged: list[str] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    sizes_px: dict[str, int] = field(default_factory=dict)
    prompts: dict[str, object] = field(default_factory=dict)  # caption -> conditioning, where a graph has made them


def prepare_folder(
    folder: CaptionedFolder,
    root: Path,
    encode: EncodeImage,
    *,
    resolution_px: int,
    step_px: int,
    enlarge: bool = True,
    use_alpha: bool = True,
    on_step: OnStep | None = None,
) -> Prepared:
    """Read, fit and encode the pictures of a folder, each once; a broken one costs itself and is named.

    Args:
        encode: the VAE.
        resolution_px: the area's square root. step_px: of the sides.
        use_alpha: whether transparent parts count as a mask.

    Raises:
        ValueError: a resolution of less than a step.
    """
    choices, found = sizes(resolution_px, step_px), Prepared(unused=dict(folder.unused))
    for number, one in enumerate(folder.pictures):
        name = one.path.relative_to(root).as_posix()
        try:
            _add_(found, one, name, encode, choices, 0 if enlarge else step_px, use_alpha)
        except FileFormatError as error:
            found.unused[name] = error.sentence
        if on_step:
            on_step(number + 1, len(folder.pictures))
    latents = on_the_cpu([picture.latent for picture in found.pictures])
    found.pictures = [replace(picture, latent=latent) for picture, latent in zip(found.pictures, latents)]
    return found


def _add_(
    found: Prepared,
    one: Captioned,
    name: str,
    encode: EncodeImage,
    choices: Sequence[tuple[int, int]],
    keep_small_by_px: int,
    use_alpha: bool,
) -> None:
    image, transparent = read_image(one.path)
    image, transparent = image[:1], transparent[:1]
    height, width = image.shape[1:3]
    own = fit(width, height, choices, keep_small_by_px=keep_small_by_px)
    fitted = fitted_image(image, own.width, own.height)
    mask = None
    if one.mask is not None:
        labels, _ = read_image(one.mask)
        mask = fitted_image(labels[:1].mean(-1, keepdim=True), own.width, own.height)
    elif use_alpha and float(transparent.mean()) >= _MASK_FROM:
        mask = fitted_image(1 - transparent[..., None], own.width, own.height)
    latent = encode(fitted).detach()
    cells = (
        None
        if mask is None
        else functional.adaptive_avg_pool2d(mask.movedim(-1, 1), (latent.shape[-2], latent.shape[-1]))
    )
    if cells is not None and latent.ndim == 5:
        cells = cells[:, :, None]
    found.pictures.append(Picture(name, latent, one.caption, one.repeats, cells))
    found.cuts.append(own.cut)
    size = f"{own.width} x {own.height}"
    found.sizes_px[size] = found.sizes_px.get(size, 0) + 1
    for names, holds in (
        (found.without_caption, not one.source),
        (found.masked, mask is not None),
        (found.enlarged, max(own.width / width, own.height / height) > 1.0),
    ):
        if holds:
            names.append(name)


def fitted_image(image: Tensor, width: int, height: int) -> Tensor:
    """Scale a picture so that it covers the size, and cut that out at the centre.

    [1, H, W, C] -> [1, height, width, C]
    """
    scale = max(width / image.shape[2], height / image.shape[1])
    wide, high = max(width, round(image.shape[2] * scale)), max(height, round(image.shape[1] * scale))
    left, top = (wide - width) // 2, (high - height) // 2
    grown = functional.interpolate(image.movedim(-1, 1), size=(high, wide), mode="bicubic", antialias=True)
    return grown[:, :, top : top + height, left : left + width].clamp(0, 1).movedim(1, -1)
