"""What became of a LoRA file: lines for the node, data for programs, and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..drawing.bar_chart import bar_chart
from ..lora.blocks import block_of, count_by_block
from ..lora.families import family_of_file
from ..lora.mmdit import Place
from .host import host
from .lora_application import Use
from .lora_files import ParsedFile

_SHOWN = 3  # losses of one sort told on the node; the data has all of them


def facts(read: ParsedFile) -> dict:
    """What a file holds, whatever it is put on."""
    file = read.file
    adapters = file.adapters.values()
    alphas = {float(alpha) for adapter in adapters if (alpha := getattr(adapter, "alpha", None)) is not None}
    return {
        "file": read.path.name, "dialect": file.dialect, "kinds": file.kinds, "family": family_of_file(file),
        "modules": len(file.adapters), "ranks": sorted({adapter.rank for adapter in adapters if adapter.rank}),
        "alphas": sorted(alphas), "unread": dict(file.unread), "notes": list(file.notes),
        "embeddings": list(file.embeddings),
    }  # fmt: skip


def fact_line(data: Mapping) -> str:
    kinds = ", ".join(f"{kind} ({count})" for kind, count in data["kinds"].items())
    parts = [data["dialect"], kinds]
    parts += [f"{word} {_listed(data[key])}" for word, key in (("rank", "ranks"), ("alpha", "alphas")) if data[key]]
    parts += [f"for {data['family']}"] if data["family"] else []
    return f"{data['file']}: {', '.join(part for part in parts if part)}"


def told(use: Use, targets: Mapping[str, object]) -> tuple[list[str], dict]:
    """The lines and the data of one file's report."""
    data, file = facts(use.parsed), use.parsed.file
    blocks = _blocks(use, targets)
    taken = {name: len(set(found.modules.values())) for name, found in use.matches.items()}
    data |= {
        "applied": use.applied,
        "targets": {
            name: {"modules": taken[name], "strength": use.entry.strengths[name]} for name in use.matches
        },
        "block_selectors": use.entry.blocks, "blocks": blocks, "change": _together(blocks.values()),
        "homeless": dict(use.homeless), "misfits": dict(use.misfits), "not_connected": list(use.elsewhere),
    }  # fmt: skip
    lines = [fact_line(data)]
    lines += [
        f"{name}: {count} of {len(file.adapters) + len(file.unread)} modules, strength {use.entry.strengths[name]:g}"
        for name, count in taken.items()
    ]
    lines.append("by block: " + ", ".join(f"{block} {entry['modules']}" for block, entry in blocks.items()))
    if data["change"] is not None:
        lines.append(f"the change is {_percent(data['change'])} of the weights it touches")
    if not any(strength for of_target in use.strengths.values() for strength in of_target.values()):
        lines.append("all its strengths are 0, so it changes nothing")
    return lines + _losses(use) + list(file.notes), data


def chart(data: Sequence[Mapping]):
    """Of one file its blocks, of several the files: how large the change is beside the weights.

    Where it is not known, how many modules there are. At least one file's data -> [1, H, W, 3] in 0..1
    """
    bars = data[0]["blocks"] if len(data) == 1 else {f"{n}. {one['file']}": one for n, one in enumerate(data, 1)}
    what = "blocks" if len(data) == 1 else "files"
    if all(bar["change"] is not None for bar in bars.values()):
        values = [min(1.0, bar["change"]) for bar in bars.values()]
        title = f"size of the change beside the weights, by {what}"
    else:
        counts = [bar["modules"] if len(data) == 1 else bar["applied"] for bar in bars.values()]
        values, title = [count / max(1, sum(counts)) for count in counts], f"share of the modules, by {what}"
    return bar_chart(list(bars), values, title)


def _blocks(use: Use, targets: Mapping[str, object]) -> dict[str, dict]:
    """Block -> modules, the strengths in it, and the size of its change beside its weights (None where unknown)."""
    found: dict[str, dict] = {}
    places = [(name, place) for name, match in use.matches.items() for place in match.found]
    for block, count in count_by_block(place for _, place in places).items():
        found[block] = {"modules": count, "strengths": set(), "change": None, "squares": [0.0, 0.0]}
    for name, match in use.matches.items():
        weights = host.norms(targets[name], _measurable(use, match.found))
        for place, adapter in match.found.items():
            entry, strength = found[block_of(place)], use.strengths[name][place]
            entry["strengths"].add(round(strength, 6))
            if place in weights:
                entry["squares"][0] += (strength * use.parsed.norm_of(adapter)) ** 2
                entry["squares"][1] += weights[place] ** 2
    for entry in found.values():
        entry["strengths"] = sorted(entry["strengths"])
        entry["change"] = _ratio(entry["squares"])
    return found


def _measurable(use: Use, found: Mapping[Place, object]) -> list[Place]:
    return [place for place, adapter in found.items() if use.parsed.norm_of(adapter) is not None]


def _ratio(squares: Sequence[float]) -> float | None:
    return round(math.sqrt(squares[0] / squares[1]), 6) if squares[1] else None


def _together(blocks) -> float | None:
    """The size over all blocks; takes the sums out of them, which nobody else wants."""
    sums = [entry.pop("squares") for entry in blocks]
    return _ratio([sum(one[0] for one in sums), sum(one[1] for one in sums)])


def _losses(use: Use) -> list[str]:
    lines = []
    if use.elsewhere:
        lines.append(f"{len(use.elsewhere)} modules are for something that is not connected: {use.elsewhere[0]} ...")
    if use.homeless:
        module, nearest = next(iter(use.homeless.items()))
        lines.append(
            f"{len(use.homeless)} modules have no place in what is connected: {module} "
            f"(nearest: {nearest or 'none'}) ..."
        )
    lines += [f"does not fit: {why}" for why in list(use.misfits.values())[:_SHOWN]]
    if len(use.misfits) > _SHOWN:
        lines.append(f"and {len(use.misfits) - _SHOWN} more that do not fit")
    if unread := use.parsed.file.unread:
        module, why = next(iter(unread.items()))
        lines.append(f"{len(unread)} not read: {module}: {why}")
    return lines


def _listed(numbers: Sequence[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:6])
    return shown if len(numbers) <= 6 else f"{shown} ... {numbers[-1]:g}"


def _percent(part: float) -> str:
    return f"{100 * part:.3g} %"
