"""What the Doctor says: a table of the things, what does not fit, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from ...doctor.facts import OTHER, Facts, Finding
from ...doctor.fits import is_checked

COLUMNS = ("input", "what it is", "numbers", "stored as", "place", "put on it")


def lines_of(things: Sequence[Facts], found: Sequence[Finding]) -> list[str]:
    """The findings, the gravest first, then the table, its cells with tabs between them."""
    said = [f"{'✖' if one.misfit else '⚠'} {' + '.join(one.between)}: {one.sentence}" for one in found]
    misfits, pairs = sum(one.misfit for one in found), checked(things)
    unknown = [one.name for one in things if not is_known(one)]
    if not misfits and len(pairs) and not unknown:
        said.append(f"✓ all of it fits: {len(pairs)} pairs were looked at")
    elif not misfits and things:
        said.append("nothing was found that does not fit together")
    if unknown:
        said.append(f"⚠ {', '.join(unknown)}: not known here, so nothing is said about it")
    return [*said, "\t".join(COLUMNS), *("\t".join(row_of(one)) for one in things)]


def row_of(one: Facts) -> tuple[str, ...]:
    """The cells of a thing in the table."""
    return tuple(cell or "-" for cell in (one.name, one.title, one.size, one.numbers, one.place, one.patches))


def data_of(things: Sequence[Facts], found: Sequence[Finding]) -> dict[str, object]:
    """The same for programs."""
    return {
        "fits": not any(one.misfit for one in found),
        "things": things_of(things),
        "misfits": [{"between": list(one.between), "problem": one.sentence} for one in found if one.misfit],
        "notes": [f"{' + '.join(one.between)}: {one.sentence}" for one in found if not one.misfit],
        "checked": [list(pair) for pair in checked(things)],
        "unknown": [one.name for one in things if not is_known(one)],
    }


def things_of(things: Sequence[Facts]) -> list[dict[str, object]]:
    """The things themselves, for programs."""
    return [_thing(one) for one in things]


def checked(things: Sequence[Facts]) -> list[tuple[str, str]]:
    """The pairs of things that there is a rule for, and of which enough is known."""
    pairs = combinations([one for one in things if is_known(one)], 2)
    return [(one.name, other.name) for one, other in pairs if is_checked(one, other)]


def is_known(one: Facts) -> bool:
    """Whether enough is known of a thing to judge it."""
    if one.kind == "MODEL":
        return bool(one.family and one.spaces)
    if one.kind == "CLIP":
        return one.text is not None
    if one.kind == "VAE":
        return bool(one.spaces or one.broken)
    return one.kind != OTHER


def _thing(one: Facts) -> dict[str, object]:
    return {
        "name": one.name,
        "kind": one.kind,
        "title": one.title,
        "family": one.family or None,
        "made_for": list(one.families),
        "latents": {
            "of": list(one.spaces),
            "channels": one.shape.channels,
            "axes": one.shape.axes,
            "px": one.shape.px,
        },
        "text": None
        if one.text is None
        else {"kinds": list(one.text.kinds), "width": one.text.width, "pooled": one.text.pooled},
        "size": one.size,
        "stored_as": one.numbers,
        "place": one.place,
        "patches": one.patches,
        "empty": one.empty,
        **one.details,
    }
