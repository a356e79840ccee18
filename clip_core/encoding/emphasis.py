"""What a token's emphasis does to its encoding: STYLES; what becomes of the emphases before that: NORMALISATIONS.

z is the encoding of a chunk with no emphasis, z0 that of the empty prompt, w the emphasis, j a place. Where every
emphasis of a prompt is 1, no style changes a bit of z.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..prompts.chunks import Chunk
from .masked import by_fragment, by_word, divided
from .rows import Term, plain

NORMALISATIONS = ("none", "mean", "length", "length+mean")
_DIGITS = 12  # after the point, of a normalised emphasis: 1.3 - 0.3 is to be 1, and no pass more
_ROUNDING = 1e-6  # a mean this much smaller than the mean size of its numbers is rounding: float32 has 6e-8 each

# hidden [N, T, C], empty [T, C] if asked for, emphasis [N, T, 1] float64 on the CPU -> hidden, sentences about it
AtPlaces = Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, tuple[str, ...]]]


@dataclass(frozen=True)
class Style:
    """First the rows that are mixed into each chunk, all of which can be encoded at once; then what is done to the
    mixture at each place.
    """

    mixture: Callable[[Sequence[Chunk]], list[Term]] = plain
    at_places: AtPlaces | None = None
    from_empty: bool = False  # whether `at_places` needs the empty prompt's encoding


def normalised(chunks: Sequence[Chunk], how: str) -> list[Chunk]:
    """The chunks with their emphases evened out. Start, end and padding keep theirs.

    "mean": all are shifted by the same amount, so that their mean over the prompt is 1. "length": the emphasis of a
    word of n tokens becomes 1 + (w - 1) / sqrt(n), n counted over all chunks; a learned embedding is one word.
    "length+mean": first the one, then the other. Source: BlenderNeko/ComfyUI_ADV_CLIP_emb adv_encode.py (commit
    63984de), which since ComfyUI's commit 1c8d11e4 takes a whole "(...:1.2)" for one word; here it is a word.

    Raises:
        ValueError: `how` is none of NORMALISATIONS.
    """
    if how not in NORMALISATIONS:
        raise ValueError(f'there is no normalisation "{how}"; choose one of {", ".join(NORMALISATIONS)}')
    chunks = list(chunks)
    if how.startswith("length"):
        lengths = Counter(token.word for chunk in chunks for token in chunk)
        chunks = _changed(chunks, lambda token: 1 + (token.emphasis - 1) / math.sqrt(lengths[token.word]))
    if how.endswith("mean"):
        emphases = [token.emphasis for chunk in chunks for token in chunk if token.word]
        shift = 1 - sum(emphases) / len(emphases) if emphases else 0.0
        chunks = _changed(chunks, lambda token: token.emphasis + shift)
    return chunks


def emphases(chunks: Sequence[Chunk]) -> Tensor:
    """[N, T, 1] float64

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


def scaled(hidden: Tensor, empty: None, emphasis: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """w z_j. Source: AUTOMATIC1111's `EmphasisOriginalNoNorm`."""
    return hidden * _beside(emphasis, hidden), ()


def mean_restored(hidden: Tensor, empty: None, emphasis: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """w z_j times what brings each chunk's mean, over its places and channels, back to what it was. Source:
    AUTOMATIC1111's modules/sd_emphasis.py `EmphasisOriginal`, which is called chunk by chunk; the copies of it in
    ComfyUI_ADV_CLIP_emb and comfyui-prompt-control take the mean over all chunks.

    The numbers have both signs, so the mean can come out near 0, and the factor large or negative: as in the reference,
    with a sentence about it. Where the weighted mean is nothing but rounding, the chunk is left as weighted, and that
    is said too.
    """
    weighted, notes, factors = hidden * _beside(emphasis, hidden), [], {}
    changed = (emphasis != 1).flatten(1).any(1).nonzero().flatten().tolist()  # emphases are on the CPU: nobody waits
    pairs = torch.stack((hidden, weighted), 1).cpu() if changed else ()  # [N, 2, T, C], all of it in one move
    for number in changed:
        before, chunk = pairs[number].double()  # only here: some devices have no float64
        after = chunk.mean().item()
        if abs(after) <= _ROUNDING * chunk.abs().mean().item():
            notes.append(
                f"chunk {number + 1}: its weights bring the mean of its encoding to 0, so A1111's restoring of the "
                "mean has no factor to go by and is left out for it"
            )
            continue
        factor = factors[number] = before.mean().item() / after
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

    There is a jump of about p just above 1, which is the reference's. Source: asagi4/comfyui-prompt-control
    adv_encode.py `perp_weight` (commit b24d93b). A z_j of length 0 stays, where the reference mends a NaN with 0.
    """
    weight = _beside(emphasis, hidden)
    length = hidden.square().sum(-1, keepdim=True)  # [N, T, 1]
    along = (empty * hidden).sum(-1, keepdim=True) / length.masked_fill(length == 0, 1) * hidden
    moved = torch.where(weight.abs() > 1, hidden + weight * along, hidden - (1 - weight) * along)
    moved = torch.where(weight == 0, empty, moved)
    return torch.where(weight == 1, hidden, moved), ()


STYLES: dict[str, Style] = {
    "comfy": Style(at_places=from_empty, from_empty=True),
    "a1111": Style(at_places=mean_restored),
    "a1111 no norm": Style(at_places=scaled),
    # compel moves each row from z0 and then mixes; as shares add up to 1, mixing first gives the same
    "compel": Style(by_fragment, from_empty, from_empty=True),
    "comfy++": Style(by_word),
    "down_weight": Style(divided),
    "perp": Style(at_places=perpendicular, from_empty=True),
}


def _beside(emphasis: Tensor, hidden: Tensor) -> Tensor:
    """Emphases as numbers like these. They are rounded where they are: the other device may have no float64."""
    return emphasis.to(hidden.dtype).to(hidden.device)


def _changed(chunks: Sequence[Chunk], emphasis: Callable) -> list[Chunk]:
    return [
        [replace(token, emphasis=round(emphasis(token), _DIGITS)) if token.word else token for token in chunk]
        for chunk in chunks
    ]
