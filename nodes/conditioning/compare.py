"""Two CONDITIONINGs compared entry by entry, and the report on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ...clip_core.encoding import conditioning as tokens
from ...clip_core.encoding.conditioning import Comparison
from .entries import POOLED, Options, counted, option_words, pairs

CHUNK = 77
Pair = tuple[Comparison, Comparison | None]  # of the tokens, and of the pooled vectors if both have one


def compare_entries(first: object, second: object) -> tuple[list[Pair], list[str]]:
    """Compare tokens and pooled vectors of each pair of entries; and notes.

    Raises:
        ValueError: the entries cannot be paired or compared.
    """
    found, notes = [], []
    for (hidden_a, options_a), (hidden_b, options_b) in pairs(first, second):
        compared = tokens.compare(hidden_a, hidden_b)
        pooled = [options.get(POOLED) for options in (options_a, options_b)]
        both = all(vector is not None for vector in pooled)
        found.append((compared, tokens.compare(*(vector[:, None] for vector in pooled)) if both else None))
        notes += _lengths_note(hidden_a.shape[1], hidden_b.shape[1], compared.cosine.shape[1])
        for which, broken in zip(("first", "second"), compared.broken):
            if broken:
                notes.append(f"the {which} has NaN or infinite numbers in {broken} of its tokens: they have no cosine")
        if not both:
            missing = [which for which, vector in zip(("first", "second"), pooled) if vector is None]
            notes.append(f"no pooled vectors compared: the {' and the '.join(missing)} has none")
        notes += _notes_on_options(options_a, options_b)
    return found, counted(notes)


def _lengths_note(first: int, second: int, common: int) -> list[str]:
    if first == second:
        return []
    longer, more = ("first", first - common) if first > second else ("second", second - common)
    return [f"{first} and {second} tokens: the first {common} are compared, {more} of the {longer} have no partner"]


def _notes_on_options(first: Options, second: Options) -> list[str]:
    """Notes on options that differ."""
    notes = []
    for which, options, other in (("first", first, second), ("second", second, first)):
        notes += [
            f"only the {which} has the option {option_words(key)}"
            for key in options
            if key not in other and key != POOLED
        ]
    both = [key for key in first if key in second and key != POOLED]
    return notes + [
        f"the option {option_words(key)} differs" for key in both if not tokens.same(first[key], second[key])
    ]


def chunk_borders(*lengths: int) -> list[int]:
    """The first tokens of the second chunk, the third, ...; none if a length is no multiple of CLIP's 77 tokens."""
    return [] if any(length % CHUNK for length in lengths) else list(range(CHUNK, max(lengths), CHUNK))


def report(found: Sequence[Pair]) -> tuple[list[str], list[dict]]:
    """The lines and the data of a report: one for each row of the batch of each entry."""
    lines, rows = [], []
    for number, (compared, pooled) in enumerate(found, 1):
        for place in range(len(compared.cosine)):
            row = {"entry": number, "row": place + 1} | _row(compared, pooled, place)
            many = len(found) > 1 or len(compared.cosine) > 1
            name = f"entry {number}, row {place + 1}: " if many else ""
            lines.append(name + _line(row))
            rows.append(row)
    return lines, rows


def _row(compared: Comparison, pooled: Comparison | None, place: int) -> dict:
    cosine, ratio = compared.cosine[place].tolist(), compared.ratio[place].tolist()
    known = [(value, token) for token, value in enumerate(cosine) if math.isfinite(value)]
    lowest, at = min(known, default=(None, None))
    pooled_pair = (
        None
        if pooled is None
        else {
            "cosine": _number(float(pooled.cosine[place, 0])),
            "length_ratio": _number(float(pooled.ratio[place, 0])),
            "largest_difference": _number(pooled.largest_difference),
            "identical_bits": pooled.identical,
        }
    )
    return {
        "tokens": [compared.norms[0].shape[1], compared.norms[1].shape[1]],
        "compared": len(cosine),
        "identical_bits": compared.identical,
        "mean_cosine": _number(sum(value for value, _ in known) / len(known)) if known else None,
        "lowest_cosine": _number(lowest),
        "lowest_at_token": at,
        "largest_difference": _number(compared.largest_difference),
        "pooled": pooled_pair,
        "cosine": _numbers(cosine),
        "length_ratio": _numbers(ratio),
        "first_length": _numbers(compared.norms[0][place].tolist()),
        "second_length": _numbers(compared.norms[1][place].tolist()),
        "chunk_borders": chunk_borders(compared.norms[0].shape[1], compared.norms[1].shape[1]),
    }


def _line(row: dict) -> str:
    pooled = row["pooled"]
    if row["identical_bits"]:
        said = f"the same: {row['compared']} tokens with identical bits"
    elif row["mean_cosine"] is None:
        said = f"{row['compared']} tokens, none of which can be compared"
    else:
        said = (
            f"{_percent(row['mean_cosine'])} alike on average over {row['compared']} tokens, "
            f"{_percent(row['lowest_cosine'])} at the least (token {row['lowest_at_token']})"
        )
    if pooled is None:
        return said
    vectors = "identical bits" if pooled["identical_bits"] else f"{_percent(pooled['cosine'])} alike"
    return f"{said}; summary (pooled) vector: {vectors}"


def _percent(cosine: float | None) -> str:
    """How alike: 100 % is the same direction. Nearly alike is not rounded to alike."""
    if cosine is None:
        return "not a number"
    digits = 1 if abs(cosine) < 0.999 else 3
    return f"{100 * cosine:.{digits}f} %"


def _number(value: float | None) -> float | None:
    """A number for JSON, which has no NaN and no infinity: six digits, or None."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [_number(value) for value in values]
