"""The table of weightings, STYLES, which apply emphases to an encoding; and NORMALISATIONS of the emphases before that.

In the formulas z is the encoding of a chunk without emphasis, z0 that of the empty prompt, w the emphasis, j a
position. A prompt whose emphases are all 1 keeps the bits of z under every style.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..prompts.chunks import Chunk, Token
from .masked import by_fragment, by_word, divided
from .rows import Term, plain

NORMALISATIONS = ("none", "mean", "length", "length+mean")
_DIGITS = 12  # after the point of a normalised emphasis: 1.3 - 0.3 is then 1, which needs no pass of its own
_ROUNDING = 1e-6  # a mean this small beside the mean magnitude is rounding error: 6e-8 for each float32

# hidden [N, T, C], the empty prompt's [T, C], emphasis [N, T, 1] float64 on the CPU -> hidden, notes
Apply = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, tuple[str, ...]]]


@dataclass(frozen=True)
class Style:
    """A weighting in two steps: a mixture of rows for each chunk, which are encoded in one go, and then a function that
    applies the emphasis at each position of the mixture.
    """

    mixture: Callable[[Sequence[Chunk]], list[Term]] = plain
    apply: Apply | None = None
    from_empty: bool = False  # `apply` needs the empty prompt's encoding; otherwise it gets one of zeros


def normalise_emphases(chunks: Sequence[Chunk], normalisation: str) -> list[Chunk]:
    """Even out the emphases of a prompt. Start, end and padding keep theirs.

    "mean": all are shifted by the same amount, so that their mean over the prompt is 1. "length": the emphasis of a
    word of n tokens becomes 1 + (w - 1) / sqrt(n), n counted over all chunks; a learned embedding is one word.
    "length+mean": "length", then "mean". Source: BlenderNeko/ComfyUI_ADV_CLIP_emb adv_encode.py (commit 63984de), which
    since ComfyUI's commit 1c8d11e4 takes a whole "(...:1.2)" for one word; here a word is a word.

    Raises:
        ValueError: there is no such normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f'there is no normalisation "{normalisation}"; choose one of {", ".join(NORMALISATIONS)}')
    chunks = list(chunks)
    if normalisation.startswith("length"):
        lengths = Counter(token.word for chunk in chunks for token in chunk)
        chunks = _change_emphases(chunks, lambda token: 1 + (token.emphasis - 1) / math.sqrt(lengths[token.word]))
    if normalisation.endswith("mean"):
        emphases = [token.emphasis for chunk in chunks for token in chunk if token.word]
        shift = 1 - sum(emphases) / len(emphases) if emphases else 0.0
        chunks = _change_emphases(chunks, lambda token: token.emphasis + shift)
    return chunks


def emphases(chunks: Sequence[Chunk]) -> Tensor:
    """The emphases of all tokens. -> [N, T, 1] float64 on the CPU

    Raises:
        ValueError: one of them is NaN or infinite.
    """
    found = torch.tensor([[token.emphasis for token in chunk] for chunk in chunks], dtype=torch.float64)[..., None]
    if not found.isfinite().all():
        raise ValueError("the prompt has an emphasis that is no finite number; write weights as in (word:1.2)")
    return found


def from_empty(hidden: Tensor, empty: Tensor, emphasis: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """z0_j + w (z_j - z0_j). Source: ComfyUI comfy/sd1_clip.py `encode_token_weights`, whose bits these are."""
    weight = _beside(emphasis, hidden)
    return torch.where(weight == 1, hidden, (hidden - empty) * weight + empty), ()


def scaled(hidden: Tensor, empty: Tensor, emphasis: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """w z_j. Source: AUTOMATIC1111's `EmphasisOriginalNoNorm`."""
    return hidden * _beside(emphasis, hidden), ()


def mean_restored(hidden: Tensor, empty: Tensor, emphasis: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """w z_j times the factor that restores each chunk's mean over its positions and channels. Source: AUTOMATIC1111's
    modules/sd_emphasis.py `EmphasisOriginal`, which is called chunk by chunk; its copies in ComfyUI_ADV_CLIP_emb and
    comfyui-prompt-control take the mean over all chunks.

    The numbers have both signs, so the weighted mean can be near 0, and the factor large or negative: as in the
    reference, with a note. A weighted mean that is mere rounding error gives no factor: the chunk stays as weighted,
    with a note.
    """
    weighted, notes, factors = hidden * _beside(emphasis, hidden), [], {}
    # Emphases are on the CPU, so this waits for no card.
    changed = (emphasis != 1).flatten(1).any(1).nonzero().flatten().tolist()
    pairs = torch.stack((hidden, weighted), 1).cpu() if changed else hidden[:0]  # [N, 2, T, C], in one move
    for number in changed:
        before, after = pairs[number].double()  # [T, C] each; on the CPU, as some devices have no float64
        mean = after.mean().item()
        if abs(mean) <= _ROUNDING * after.abs().mean().item():
            notes.append(
                f"chunk {number + 1}: its weights bring the mean of its encoding to 0, so A1111's restoring of the "
                "mean has no factor to go by and is left out for it"
            )
            continue
        factor = factors[number] = before.mean().item() / mean
        if not 0.25 < factor < 4:
            notes.append(
                f"chunk {number + 1}: A1111's restoring of the mean multiplies it by {factor:.3g}, because its weights "
                "bring the mean of its encoding near 0 or turn its sign; weights nearer to 1 avoid that"
            )
    for number, factor in factors.items():
        weighted[number] *= factor
    return weighted, tuple(notes)


def perpendicular(hidden: Tensor, empty: Tensor, emphasis: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """With p the part of z_j along z0_j, p = (z0_j . z_j / |z_j|^2) z_j:

        |w| <= 1: z_j - (1 - w) p;  |w| > 1: z_j + w p;  w = 0: z0_j

    Just above 1 the function jumps by about p, as in the reference. Source: asagi4/comfyui-prompt-control
    adv_encode.py `perp_weight` (commit b24d93b). A z_j of length 0 stays as it is; the reference replaces a NaN by 0.
    """
    weight = _beside(emphasis, hidden)
    length = hidden.square().sum(-1, keepdim=True)  # [N, T, 1]
    along = (empty * hidden).sum(-1, keepdim=True) / length.masked_fill(length == 0, 1) * hidden
    moved = torch.where(weight.abs() > 1, hidden + weight * along, hidden - (1 - weight) * along)
    moved = torch.where(weight == 0, empty, moved)
    return torch.where(weight == 1, hidden, moved), ()


STYLES: dict[str, Style] = {
    "comfy": Style(apply=from_empty, from_empty=True),
    "a1111": Style(apply=mean_restored),
    "a1111 no norm": Style(apply=scaled),
    # compel applies the emphasis to each row and then mixes; shares add up to 1, so mixing first gives the same
    "compel": Style(by_fragment, from_empty, from_empty=True),
    "comfy++": Style(by_word),
    "down_weight": Style(divided),
    "perp": Style(apply=perpendicular, from_empty=True),
}


def _beside(emphasis: Tensor, hidden: Tensor) -> Tensor:
    """Emphases in the type and on the device of `hidden`. They are rounded first: that device may have no float64."""
    return emphasis.to(hidden.dtype).to(hidden.device)


def _change_emphases(chunks: Sequence[Chunk], emphasis: Callable[[Token], float]) -> list[Chunk]:
    return [
        [replace(token, emphasis=round(emphasis(token), _DIGITS)) if token.word else token for token in chunk]
        for chunk in chunks
    ]
