"""The pairs as text."""

from collections import Counter
from collections.abc import Sequence

from .pairs import Pair

VERDICTS = ("equal", "better", "worse", "values", "neither")


def line(pair: Pair) -> str:
    """A pair in a line: its names, the places by the stock loader and by us, the verdict, and the first reason."""
    why = [
        f"{name} {keys[0]} (+{len(keys) - 1})" for name in ("worse", "differ", "wrong") if (keys := getattr(pair, name))
    ]
    return (
        f"{pair.family:18} {pair.source:9} {pair.dialect:28} {pair.stock:4}/{pair.ours:<4} {pair.verdict:8}"
        f"{'; '.join(why)}{' | ' + pair.error[:160] if pair.error else ''}"
    ).rstrip()


def summary(found: Sequence[Pair]) -> str:
    """The counts of all pairs."""
    counts = Counter(pair.verdict for pair in found)
    loaded = len(found) - counts["neither"]
    return f"{len(found)} pairs, {loaded} that one of the two loads: " + ", ".join(
        f"{counts[verdict]} {verdict}" for verdict in VERDICTS
    )


def text(found: Sequence[Pair]) -> str:
    """Every pair, and the counts by family."""
    families = dict.fromkeys(pair.family for pair in found)
    rows = [f"{'family':20}" + "".join(f"{verdict:>9}" for verdict in VERDICTS)]
    for family in families:
        counts = Counter(pair.verdict for pair in found if pair.family == family)
        rows.append(f"{family:20}" + "".join(f"{counts[verdict]:>9}" for verdict in VERDICTS))
    return "\n".join([summary(found), "", *rows, "", *map(line, found)]) + "\n"
