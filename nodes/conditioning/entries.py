"""CONDITIONINGs entry by entry, and two of them joined. An entry is [tokens, options], as in ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...clip_core.encoding import conditioning as tokens

MODES = ("concat", "average", "add")
POOLED, MASK = "pooled_output", "attention_mask"
MAX_NAMED = 8  # notes of one kind that a report names


def checked(conditioning, which: str) -> list:
    """The entries of a CONDITIONING.

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


def _is_entry(entry) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], dict)


def pairs(first, second) -> list[tuple]:
    """Each entry of the first with the second's one entry, or with its partner where both have as many.

    Raises:
        ValueError: the numbers of entries do not fit, or an entry has no tokens or its
            pooled vector is none.
    """
    first, second = checked(first, "first"), checked(second, "second")
    for which, entries in (("first", first), ("second", second)):
        for number, (hidden, options) in enumerate(entries, 1):
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


def _kind(value) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"one of shape {list(shape)}"


def shares(mode: str, weight_a: float, weight_b: float) -> tuple[float, float]:
    """What each side is multiplied with: the weights, or for an average their parts of their sum."""
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


def combined(first, second, mode: str, weights: tuple[float, float]) -> tuple[list, list[str], list[dict]]:
    """The joined CONDITIONING, what was odd as sentences, and each entry's numbers. The inputs stay as they are.

    Raises:
        ValueError: what cannot be joined, in one sentence.
    """
    made, notes, facts = [], [], []
    for one, other in pairs(first, second):
        entry, said, fact = _combined_entry(one, other, mode, weights)
        made.append(entry)
        notes += said
        facts.append(fact)
    return made, counted(notes), facts


def joined(whole: list, part: list, join: str, weight: float) -> tuple[list, list[str]]:
    """A prompt's next part put to what is there: the join CONCAT or AVERAGE, and the part's weight."""
    mode, weights = ("concat", (1.0, weight)) if join == "CONCAT" else ("average", (1.0 - weight, weight))
    made, notes, _ = combined(whole, part, mode, weights)
    return made, notes


def _combined_entry(one, other, mode: str, weights: tuple[float, float]) -> tuple[list, list[str], dict]:
    (hidden_a, options_a), (hidden_b, options_b) = one, other
    parts = list(zip((hidden_a, hidden_b), weights))
    result = tokens.concat(parts) if mode == "concat" else tokens.add(parts)
    lengths = [hidden_a.shape[1], hidden_b.shape[1]]
    notes = [
        f"the {which} has {length} tokens: {more} of zeros were put behind them"
        for which, length, more in zip(("first", "second"), lengths, result.padded)
        if more
    ]
    options = dict(options_a)
    pooled, origin = _pooled(options_a.get(POOLED), options_b.get(POOLED), mode, weights)
    if pooled is not None:
        options[POOLED] = pooled
    taken, masks = {POOLED}, [(options_a.get(MASK), hidden_a), (options_b.get(MASK), hidden_b)]
    if all(mask is None or getattr(mask, "shape", None) == hidden.shape[:2] for mask, hidden in masks):
        mask = tokens.join_masks(list(zip((mask for mask, _ in masks), lengths)), one_behind_other=mode == "concat")
        options |= {} if mask is None else {MASK: mask}
        taken.add(MASK)
    notes += _POOLED_NOTES.get(origin, []) + _kept(options_a, options_b, taken)
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


def _pooled(first, second, mode: str, weights: tuple[float, float]) -> tuple:
    """The pooled vector of the result, and where it is from."""
    if first is None and second is None:
        return None, "none"
    if first is None or second is None:
        return (second, "second alone") if first is None else (first, "first alone")
    if mode == "concat":
        return first, "first"
    return tokens.mixed(list(zip((first, second), weights))), "mixed"


def _kept(first: dict, second: dict, taken: set[str]) -> list[str]:
    """What of the second's options the result does not have."""
    notes = []
    for key in second:
        if key in taken:
            continue
        if key not in first:
            notes.append(f"the second's {key!r} is left out: the first has none")
        elif not tokens.same(first[key], second[key]):
            values = [value for value in (first[key], second[key]) if isinstance(value, int | float | str)]
            shown = f" ({str(values[0])[:40]}, not {str(values[1])[:40]})" if len(values) == 2 else ""
            notes.append(f"{key!r} is the first's, the second's is another{shown}")
    return notes


def counted(notes: Sequence[str]) -> list[str]:
    """Each sentence once, with how many entries it is true of; at most a few of them."""
    times: dict[str, int] = {}
    for note in notes:
        times[note] = times.get(note, 0) + 1
    lines = [note if count == 1 else f"{note} (in {count} entries)" for note, count in times.items()]
    more = len(lines) - MAX_NAMED
    return lines if more <= 0 else [*lines[:MAX_NAMED], f"and {more} more notes"]


def combined_lines(mode: str, weights: tuple[float, float], facts: Sequence[dict]) -> list[str]:
    """A line for each entry: what it was made of."""
    (a, b), sign = weights, " | " if mode == "concat" else " + "
    lines = []
    for fact in facts:
        first, second = fact["tokens"]
        made = f"{fact['result']} tokens, {fact['width']} wide"
        lines.append(f"{mode}: {a:g} x {first} tokens{sign}{b:g} x {second} tokens = {made}")
    return counted(lines)
