"""The report on one LoRA file: lines for the node, data for programs, and a chart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...drawing.bar_chart import bar_chart
from ...lora.kinds.adapters import Adapter
from ...lora.models.blocks import block_of, count_by_block
from ...lora.models.families import family_of_file
from ...lora.models.match import Match
from ...lora.models.parts import describe_part, describe_parts
from ...lora.models.places import Place
from ...lora.weights.fusing import Change
from ...lora.weights.measuring import Kept, Size
from ..host import host
from .application import TARGETS, AppliedLoRA, target_of
from .files import ParsedFile

if TYPE_CHECKING:
    from ..host.interface import Image

_SHOWN = 3  # the node shows this many losses of one sort; the data has all of them

_NOT_MEASURED = (
    "their change is known only once it is made, or their weights are packed (LoRA Info with the model connected "
    "measures those that ComfyUI can unpack)"
)
_TARGETS = {"model": "MODEL", "clip": "CLIP", "clip_model": "CLIP model"}
_SIZE = "the size of the change relative to the weights"


def facts(read: ParsedFile) -> dict:
    """The data about the file alone, whatever it is applied to."""
    file = read.file
    adapters = file.adapters.values()
    alphas = {float(adapter.alpha) for adapter in adapters if adapter.alpha is not None}
    return {
        "file": read.path.name,
        "dialect": file.dialect,
        "kinds": file.kinds,
        "family": family_of_file(file),
        "modules": len(file.adapters),
        "ranks": sorted({adapter.rank for adapter in adapters if adapter.rank}),
        "alphas": sorted(alphas),
        "unread": dict(file.unread),
        "notes": list(file.notes),
        "embeddings": list(file.embeddings),
    }


def fact_line(data: Mapping) -> str:
    """One line about the file: its family, kinds, ranks, alphas and dialect."""
    kinds = ", ".join(f"{kind} ({count})" for kind, count in data["kinds"].items())
    parts = [f"made for {data['family']}" if data["family"] else "", kinds]
    parts += [
        f"{word} {_join_numbers(data[key])}" for word, key in (("rank", "ranks"), ("alpha", "alphas")) if data[key]
    ]
    parts.append(f"written the {data['dialect']} way" if data["dialect"] else "")
    return ", ".join(part for part in parts if part)


def failure_line(name: str, sentence: str, place: str = "") -> str:
    """The line about a LoRA that was not used; the front end shows it red."""
    return f"✖ {place}{': ' if place else ''}{name} was not used: {sentence}"


def count_parts(count: int) -> str:
    """So many parts of a file, in words."""
    return f"{count} part{'' if count == 1 else 's'}"


def headline(data: Mapping) -> str:
    """Which LoRA did what: its strengths, and how much of it was used."""
    where = ", ".join(f"{_TARGETS[name]} {one['strength']:g}" for name, one in data["targets"].items())
    total = data["modules"] + len(data["unread"])
    taken = data["modules_used"]
    count = count_parts(total)
    used = f"all of it used ({count})" if taken == total else f"{taken} of its {count} used"
    if data["state"] == "unused":
        return f"{data['file']}: {where}; all its strengths are 0, so it changes nothing"
    return f"{'⚠ ' if data['state'] == 'partly' else ''}{data['file']}: {where}; {used}"


def report_of(use: AppliedLoRA, targets: Mapping[str, object]) -> tuple[list[str], dict]:
    """The lines and the data of the report on one file."""
    read = use.parsed
    data = facts(read)
    changes = read.sizes_of(adapter for match in use.matches.values() for adapter in match.found.values())
    sizes = {
        name: host.sizes(targets[name], [place for place, adapter in match.found.items() if adapter in changes])
        for name, match in use.matches.items()
    }
    blocks, together = relative_changes(use.matches, use.strengths, sizes, changes)
    taken = {name: len(set(found.modules.values())) for name, found in use.matches.items()}
    data |= {
        "applied": use.applied,
        "modules_used": len({module for found in use.matches.values() for module in found.modules.values()}),
        "state": use.state,
        "targets": {name: {"modules": taken[name], "strength": use.entry.strengths[name]} for name in use.matches},
        "block_selectors": use.entry.blocks,
        "blocks": blocks,
        **together,
        "homeless": dict(use.homeless),
        "misfits": dict(use.misfits),
        "not_connected": list(use.elsewhere),
    }
    kin = [f"it was made for {use.kin[0]}, and the model is {use.kin[1]}, of the same design"] if use.kin else []
    lines = [*kin, *_losses(use), size_line(data)]
    lines.append("by block: " + ", ".join(f"{block} {entry['modules']}" for block, entry in blocks.items()))
    lines += [fact_line(data), *note_lines(read)]
    return [headline(data), *(f"  {line}" for line in lines)], data


def kept_of(uses: Sequence[AppliedLoRA], targets: Mapping[str, object]) -> tuple[list[str], dict]:
    """The lines and the data (target -> facts) about what the storage of weights in a few bits does to the changes."""
    lines, data = [], {}
    for name, target in targets.items():
        changes: dict[Place, list[Change]] = {}
        for use in uses:
            for place, adapter in use.matches[name].found.items():
                if strength := use.strengths[name][place]:
                    changes.setdefault(place, []).append(Change(adapter, strength))
        if changes and (found := host.kept(target, changes)) is not None:
            data[name] = {"stored_as": found.form} | {
                part: round(getattr(found, part), 6) for part in ("asked", "applied", "arrived")
            }
            lines.append(_kept_line(_TARGETS[name], found))
    return lines, data


def _kept_line(target: str, found: Kept) -> str:
    asked, applied, arrived = map(_percent, (found.asked, found.applied, found.arrived))
    if found.applied == found.asked:
        return (
            f"the {target} is stored as {found.form} and unpacked before it is changed: asked {asked}, applied {asked}"
        )
    return (
        f"the {target} is stored as {found.form} and rounded again: asked {asked} of its weights, applied {applied}, "
        f"in which {arrived} of what was asked arrives"
    )


def note_lines(read: ParsedFile) -> list[str]:
    """The file's notes, with the parts of the model in words instead of module names."""
    return [describe_parts(note) for note in read.file.notes]


def chart(data: Sequence[Mapping]) -> Image:
    """A bar chart of the relative change by block (one file) or by file (several), or of module counts.

    Counts are shown where a change is unknown. At least one file's data -> [1, H, W, 3] in 0..1
    """
    bars = data[0]["blocks"] if len(data) == 1 else {f"{n}. {one['file']}": one for n, one in enumerate(data, 1)}
    if all(bar["change"] is not None for bar in bars.values()):
        values = [min(1.0, bar["change"]) for bar in bars.values()]
        title = "||dW|| / ||W||"
    else:
        counts = [bar["modules"] if len(data) == 1 else bar["applied"] for bar in bars.values()]
        values, title = [count / max(1, sum(counts)) for count in counts], "%"
    return bar_chart(list(bars), values, title)


def relative_changes(
    matches: Mapping[str, Match],
    strengths: Mapping[str, Mapping[Place, float]],
    sizes: Mapping[str, Mapping[Place, Size]],
    changes: Mapping[Adapter, Size],
) -> tuple[dict[str, dict], dict]:
    """The relative change by block and in all: the norm of the change over the norm of the weights that it touches.

    Block -> `modules`, `strengths`, `change` (the ratio) and `change_error` (its standard error, 0 where the weights
    were read whole); both are None where nothing is known. Of all blocks also `not_measured`, the number of places
    whose weight or change is unknown, and `not_numbers`, the number of places left out for NaN or infinity.
    """
    found: dict[str, dict] = {}
    sums: dict[str, list[list[float]]] = {}
    unknown = broken = 0
    for block, count in count_by_block(place for match in matches.values() for place in match.found).items():
        found[block] = {"modules": count, "strengths": set()}
        sums[block] = []
    for name, match in matches.items():
        for place, adapter in match.found.items():
            block, strength = block_of(place), strengths[name][place]
            found[block]["strengths"].add(round(strength, 6))
            if (size := sizes[name].get(place)) is None:
                unknown += 1
            elif not math.isfinite(size.squares):
                broken += 1
            else:
                change = changes[adapter]
                sums[block].append([change.squares * strength**2, change.variance * strength**4, *size])
    for block, entry in found.items():
        entry |= {"strengths": sorted(entry["strengths"]), **_ratio(sums[block])}
    ratio = _ratio([one for several in sums.values() for one in several])
    return found, ratio | {"not_measured": unknown, "not_numbers": broken}


def size_line(data: Mapping) -> str:
    """The sentence about the relative change: its size, its error, and how many places it leaves out and why."""
    change, error, unknown = data["change"], data["change_error"], data["not_measured"]
    broken = data.get("not_numbers", 0)
    if change is None and broken:
        return f"{_SIZE} is unknown: {broken} of them have NaN or infinity"
    if change is None and not unknown:
        return f"{_SIZE} is unknown: they are all zero"
    if change is None:
        return f"{_SIZE} is unknown: {_NOT_MEASURED}"
    if error:
        digits = min(6, max(0, -math.floor(math.log10(100 * error))))
        size = f"about {100 * change:.{digits}f} % (± {100 * error:.{digits}f}) of the weights it touches"
    else:
        size = f"{_percent(change)} of the weights it touches"
    rest = f"; {unknown} weights are left out: {_NOT_MEASURED}" if unknown else ""
    rest += f"; {broken} weights are left out: they have NaN or infinity" if broken else ""
    return f"the change is {size}{rest}"


def _ratio(sums: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """The ratio of the norms and its error, from (change^2, its variance, weight^2, its variance) of each place."""
    change, change_variance, own, variance = (math.fsum(one[n] for one in sums) for n in range(4))
    if not own:
        return {"change": None, "change_error": None}
    ratio = math.sqrt(change / own)
    relative = math.sqrt((change_variance / change**2 if change else 0.0) + variance / own**2)
    return {"change": round(ratio, 6), "change_error": round(ratio * relative / 2, 8)}


def _losses(use: AppliedLoRA) -> list[str]:
    """The lines about the modules that were not applied; the data names each module as the file does."""
    lines = []
    counts = Counter(map(target_of, use.elsewhere))
    lines += [
        f"{count} of its parts {'is' if count == 1 else 'are'} for {TARGETS[target]}, which is not connected here"
        for target, count in counts.items()
    ]
    if use.homeless:
        module, nearest = next(iter(use.homeless.items()))
        lines.append(
            f"{len(use.homeless)} of its parts have no place in what is connected: {describe_part(module)} "
            f"(nearest: {describe_part(nearest) if nearest else 'none'})"
        )
    reasons = list(dict.fromkeys(map(describe_parts, use.misfits.values())))  # rivals have one reason together
    lines += [f"does not fit: {why}" for why in reasons[:_SHOWN]]
    if len(reasons) > _SHOWN:
        lines.append(f"and {len(reasons) - _SHOWN} more that do not fit")
    if unread := use.parsed.file.unread:
        module, why = next(iter(unread.items()))
        lines.append(f"{len(unread)} not read: {describe_part(module)}: {describe_parts(why)}")
    return lines


def _join_numbers(numbers: Sequence[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:6])
    return shown if len(numbers) <= 6 else f"{shown} ... {numbers[-1]:g}"


def _percent(part: float) -> str:
    return f"{100 * part:.3g} %"
