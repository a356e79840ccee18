"""The entries of CONDITIONINGs, checked, paired and joined. An entry is [tokens, options], as in ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...clip_core.encoding import conditioning as tokens
from ..checks import check_tensor
from ..host.interface import Conditioning

if TYPE_CHECKING:
    from ..host.interface import Tensor

MODES = ("concat", "average", "add")
POOLED, MASK = "pooled_output", "attention_mask"
MAX_NAMED = 8  # notes of one kind that a report lists
_OPTION_WORDS = {  # an entry's options in ComfyUI: in words
    POOLED: "pooled vector",
    MASK: "attention mask",
    "area": "area",
    "mask": "mask",
    "strength": "strength",
    "mask_strength": "mask strength",
    "set_area_to_bounds": "area of the mask",
    "guidance": "guidance",
    "width": "width",
    "height": "height",
    "crop_w": "crop on the left",
    "crop_h": "crop at the top",
    "target_width": "target width",
    "target_height": "target height",
    "aesthetic_score": "aesthetic score",
    "start_percent": "start of the time range",
    "end_percent": "end of the time range",
    "control": "ControlNet",
    "control_apply_to_uncond": "use of the ControlNet for the negative",
    "gligen": "GLIGEN boxes",
    "unclip_conditioning": "unCLIP picture",
    "noise_augmentation": "noise augmentation",
    "hooks": "hooks",
}

Options = Mapping[str, object]
ConditioningEntry = Sequence  # tokens [B, T, C] and Options


def option_words(key: object) -> str:
    """An option of an entry in words; one that is unknown here by its own name."""
    return _OPTION_WORDS.get(str(key), repr(key))


def check_conditioning(conditioning: object, which: str) -> Conditioning:
    """The entries of a CONDITIONING. `which` names it in the error.

    Raises:
        ValueError: it is something else, or has no entries.
    """
    if not isinstance(conditioning, list) or not all(map(_is_entry, conditioning)):
        raise ValueError(
            f"a CONDITIONING was expected as the {which}, but something else came ({type(conditioning).__name__}); "
            "connect a node that encodes text"
        )
    if not conditioning:
        raise ValueError(f"the {which} is a CONDITIONING without entries; connect one that an encoder has filled")
    return conditioning


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], dict)


def pairs(first: object, second: object) -> list[tuple[ConditioningEntry, ConditioningEntry]]:
    """Pair the entries of two CONDITIONINGs: each of the first with the second's only entry, or one by one.

    Raises:
        ValueError: their numbers of entries do not fit, or an entry's tokens or pooled vector are no tensors.
    """
    first, second = check_conditioning(first, "first"), check_conditioning(second, "second")
    for which, entries in (("first", first), ("second", second)):
        for number, (hidden, options) in enumerate(entries, 1):
            if hasattr(hidden, "dtype"):
                check_tensor(hidden, f"the tensor of entry {number} of the {which}")
            if len(getattr(hidden, "shape", ())) != 3:
                raise ValueError(
                    f"tokens of shape [batch, tokens, width] were expected in entry {number} of the {which}, but "
                    f"{_kind(hidden)} came; this node is for encoded text"
                )
            if options.get(POOLED) is not None and not hasattr(options[POOLED], "shape"):
                raise ValueError(
                    f"a pooled vector was expected in entry {number} of the {which}, but "
                    f"{_kind(options[POOLED])} came; encode the prompt again"
                )
    if len(second) == 1:
        return [(entry, second[0]) for entry in first]
    if len(first) == len(second):
        return list(zip(first, second))
    raise ValueError(
        f"as many entries in the second as in the first ({len(first)}), or one, were expected, but it has "
        f"{len(second)}; exchange the inputs, or use this node before the entries are combined"
    )


def _kind(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"one of shape {list(shape)}"


def shares(mode: str, weight_a: float, weight_b: float) -> tuple[float, float]:
    """The factors of both sides: the weights, or for an average the weights divided by their sum.

    Raises:
        ValueError: a weight is not finite, or an average's weights cancel out.
    """
    if not (math.isfinite(weight_a) and math.isfinite(weight_b)):
        raise ValueError(f"two weights were expected, but {weight_a} and {weight_b} came; give finite numbers")
    if mode != "average":
        return weight_a, weight_b
    total = weight_a + weight_b
    if abs(total) < 1e-6:
        raise ValueError(
            f"an average divides by the sum of its weights, but {weight_a:g} and {weight_b:g} make {total:g}; change "
            "one of them, or use the mode add"
        )
    return 1.0 - weight_b / total, weight_b / total


def combine(
    first: object, second: object, mode: str, weights: tuple[float, float]
) -> tuple[Conditioning, list[str], list[dict]]:
    """Join two CONDITIONINGs entry by entry. The inputs stay unchanged.

    Returns:
        the joined CONDITIONING, notes, and the data of each entry.

    Raises:
        ValueError: they cannot be joined.
    """
    made, notes, facts = [], [], []
    for one, other in pairs(first, second):
        entry, said, fact = _combine_entries(one, other, mode, weights)
        made.append(entry)
        notes += said
        facts.append(fact)
    return made, counted(notes), facts


def join_part(whole: Conditioning, part: Conditioning, join: str, weight: float) -> tuple[Conditioning, list[str]]:
    """Join the next part of a prompt to the parts before it, by CONCAT or AVERAGE with the part's weight."""
    mode, weights = ("concat", (1.0, weight)) if join == "CONCAT" else ("average", (1.0 - weight, weight))
    made, notes, _ = combine(whole, part, mode, weights)
    return made, notes


def _combine_entries(
    one: ConditioningEntry, other: ConditioningEntry, mode: str, weights: tuple[float, float]
) -> tuple[list, list[str], dict]:
    """Join two entries: the joined entry, notes, and its data."""
    # Tokens: side by side, or added with the shorter one padded.
    (hidden_a, options_a), (hidden_b, options_b) = one, other
    parts = list(zip((hidden_a, hidden_b), weights))
    result = tokens.concat(parts) if mode == "concat" else tokens.add(parts)
    lengths = [hidden_a.shape[1], hidden_b.shape[1]]
    notes = [
        f"the {which} has {length} tokens: {more} of zeros were put behind them"
        for which, length, more in zip(("first", "second"), lengths, result.padded)
        if more
    ]

    # Options: the first's, with pooled vectors and attention masks joined.
    options = dict(options_a)
    pooled, origin = _join_pooled(options_a.get(POOLED), options_b.get(POOLED), mode, weights)
    if pooled is not None:
        options[POOLED] = pooled
    taken, masks = {POOLED}, [(options_a.get(MASK), hidden_a), (options_b.get(MASK), hidden_b)]
    if all(mask is None or getattr(mask, "shape", None) == hidden.shape[:2] for mask, hidden in masks):
        mask = tokens.join_masks(list(zip((mask for mask, _ in masks), lengths)), one_behind_other=mode == "concat")
        options |= {} if mask is None else {MASK: mask}
        taken.add(MASK)
    notes += _POOLED_NOTES.get(origin, []) + _notes_on_options(options_a, options_b, taken)
    if broken := tokens.broken_tokens(result.hidden):
        notes.append(f"the result has NaN or infinite numbers in {broken} of its tokens: something overflowed")
    width, length = result.hidden.shape[2], result.hidden.shape[1]
    fact = {"tokens": lengths, "result": length, "width": width, "padded": list(result.padded), "pooled": origin}
    return [result.hidden, options], notes, fact


_POOLED_NOTES = {
    "first": ["the pooled vector is that of the first: a vector cannot be put behind another"],
    "first alone": ["the pooled vector is the first's as it was: the second has none"],
    "second alone": ["the pooled vector is the second's as it was: the first has none"],
}


def _join_pooled(
    first: Tensor | None, second: Tensor | None, mode: str, weights: tuple[float, float]
) -> tuple[Tensor | None, str]:
    """The pooled vector of the result, and its origin."""
    if first is None and second is None:
        return None, "none"
    if first is None or second is None:
        return (second, "second alone") if first is None else (first, "first alone")
    if mode == "concat":
        return first, "first"
    return tokens.mixed(list(zip((first, second), weights))), "mixed"


def _notes_on_options(first: Options, second: Options, taken: set[str]) -> list[str]:
    """Notes on options of the second that the result does not have."""
    notes = []
    for key in second:
        if key in taken:
            continue
        if key not in first:
            notes.append(f"the second's {option_words(key)} is left out: the first has none")
        elif not tokens.same(first[key], second[key]):
            values = [value for value in (first[key], second[key]) if isinstance(value, int | float | str)]
            shown = f" ({str(values[0])[:40]}, not {str(values[1])[:40]})" if len(values) == 2 else ""
            notes.append(f"{option_words(key)} is the first's, the second's is another{shown}")
    return notes


def counted(notes: Sequence[str]) -> list[str]:
    """Each note once, with the number of entries that it is about; at most a few of them."""
    times: dict[str, int] = {}
    for note in notes:
        times[note] = times.get(note, 0) + 1
    lines = [note if count == 1 else f"{note} (in {count} entries)" for note, count in times.items()]
    more = len(lines) - MAX_NAMED
    return lines if more <= 0 else [*lines[:MAX_NAMED], f"and {more} more notes"]


def combined_lines(mode: str, weights: tuple[float, float], facts: Sequence[dict]) -> list[str]:
    """A line for each entry: its two sides and the result."""
    (a, b), sign = weights, " | " if mode == "concat" else " + "
    lines = []
    for fact in facts:
        first, second = fact["tokens"]
        lines.append(f"{mode}: {a:g} x {first} tokens{sign}{b:g} x {second} tokens = {fact['result']} tokens")
    return counted(lines)
