"""Comparing files: lines, JSON and a picture; the copies in a folder; for the node and the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...drawing.lora_comparison import Row, lora_comparison
from ...files.errors import FileFormatError
from ...lora.kinds.adapters import LoRAError
from ...lora.workshop.comparing.compare import Comparison, Meeting, compare, distance_of, judge, suggest
from ...lora.workshop.comparing.copies import Sketch, close_pairs, sketch_of
from ...lora.workshop.gathering import Gathered
from .sources import Base, Files, laid_out, lost_lines, text_of

OnStep = Callable[[int, int], None]
_WORST = 5
KINSHIP = {
    "duplicate": "are the same change",
    "scaled": "are the same change at different strengths",
    "opposite": "are nearly each other's opposite: together they cancel out",
    "near_copy": "are nearly the same change: together they act twice",
    "alike": "push the same way: together they are stronger than each",
    "related": "push a little the same way",
    "opposed": "push against each other: together they are weaker than each",
    "unrelated": "have little to do with one another",
    "apart": "have no weight in common: there is nothing to compare",
}
_GRAVE = ("duplicate", "scaled", "opposite", "near_copy", "opposed", "apart")


def compare_files(
    files: Files, base: Base, norm_of: Callable | None, on_step: OnStep
) -> tuple[list[str], dict, object]:
    """Compare files. Returns the lines for a person, the data for a program, and the picture.

    norm_of: gives the norm of a base weight by its place, where a model is connected.

    Raises:
        ValueError: they cannot be laid side by side; the sentence says why.
    """
    gathered = laid_out(files.sources, base)
    found = compare(gathered, weight_of=base.weight_of, base_norm=norm_of, on_step=on_step)
    data = data_of(found)
    return lines_of(found, data), data, _picture(found)


def data_of(found: Comparison) -> dict:
    """Everything that was measured, for a program."""
    gathered = found.gathered
    data: dict = {
        "names_of": gathered.layout.name if gathered.layout else "the files themselves",
        "files": [
            {
                "name": source.name,
                "modules": gathered.modules_of(number),
                "norm": portrait.norm,
                "relative": portrait.relative,
                "blocks": {name: squares**0.5 for name, squares in portrait.blocks.items()},
                "ranks": [min(portrait.ranks, default=0), max(portrait.ranks, default=0)],
                "needed": {f"{share:g}": _middle(needed) for share, needed in portrait.needed.items()},
                "spectrum": [round(share, 6) for share in portrait.curve[:64]],
            }
            for number, (source, portrait) in enumerate(zip(gathered.sources, found.portraits))
        ],
        "pairs": [_pair(found, pair) for pair in found.pairs],
        "left_out": gathered.left_out,
    }
    try:
        suggested = suggest(found)
    except LoRAError as error:
        return data | {"suggested": None, "why_none": str(error)}
    return data | {
        "suggested": {
            "factor": suggested.factor,
            "strengths": [list(one) for one in suggested.strengths],
            "even": list(suggested.even),
            "together": suggested.together,
            "strongest": suggested.strongest,
        }
    }


def _pair(found: Comparison, pair: tuple[int, int]) -> dict:
    names = [found.gathered.sources[number].name for number in pair]
    met = found.pairs[pair]
    weights = sorted(found.weights[pair].items(), key=lambda item: -abs(item[1].product))
    return {
        "files": names,
        "kinship": judge(found, pair),
        "common": met.layers,
        "distance": distance_of(found, pair),
        **_meeting(met),
        "blocks": {name: _meeting(own) | {"layers": own.layers} for name, own in found.blocks[pair].items()},
        "worst": [{"part": text_of(place), **_meeting(own)} for place, own in weights[:_WORST]],
    }


def _meeting(met: Meeting) -> dict:
    return {
        "cosine": met.cosine,
        "chance": met.chance,
        "outputs": met.mean("outputs"),
        "outputs_of_chance": met.mean("outputs_of_chance"),
        "inputs": met.mean("inputs"),
        "inputs_of_chance": met.mean("inputs_of_chance"),
    }


def lines_of(found: Comparison, data: Mapping) -> list[str]:
    """What a person wants to know, the gravest first."""
    pairs = sorted(data["pairs"], key=lambda pair: pair["kinship"] not in _GRAVE)
    lines = []
    for pair in pairs:
        sign = "⚠ " if pair["kinship"] in _GRAVE else ""
        lines.append(f"{sign}{pair['files'][0]} and {pair['files'][1]} {KINSHIP[pair['kinship']]}")
        if pair["cosine"] is not None:
            lines.append(
                f"  cosine {pair['cosine']:+.3f} over {pair['common']} weights (strangers: ± {pair['chance']:.1g}); "
                f"they share {_percent(pair['outputs'])} of their outputs "
                f"(strangers: {_percent(pair['outputs_of_chance'])})"
            )
            lines += _clash_lines(pair)
    for one in data["files"]:
        size = (
            f"{_percent(one['relative'])} of the weights it touches" if one["relative"] else f"norm {one['norm']:.3g}"
        )
        low, high = one["ranks"]
        ranks = f"rank {low}" if low == high else f"ranks {low} to {high}"
        lines.append(
            f"{one['name']}: {size}, {ranks}, {one['needed']['0.9']} directions hold 90 % of a weight's change"
        )
    return lines + _suggested_lines(data) + lost_lines(found.gathered)


def _clash_lines(pair: Mapping) -> list[str]:
    """Where two files meet most: the blocks whose cosine stands out of chance."""
    blocks = [
        (name, own["cosine"]) for name, own in pair["blocks"].items() if own["cosine"] and abs(own["cosine"]) > 0.1
    ]
    worst = sorted(blocks, key=lambda one: -abs(one[1]))[:_WORST]
    if not worst or pair["kinship"] in ("duplicate", "scaled"):
        return []
    return [f"  most in {', '.join(f'{name} ({cosine:+.2f})' for name, cosine in worst)}"]


def _suggested_lines(data: Mapping) -> list[str]:
    found = data["suggested"]
    if len(data["files"]) < 2:
        return []
    if found is None:
        return [f"⚠ no strengths can be suggested: {data['why_none']}"]
    times = found["together"] / found["strongest"]
    own = ", ".join(f"{strength[0]:.3g}" for strength in found["strengths"])
    even = ", ".join(f"{strength:.3g}" for strength in found["even"])
    return [
        f"together they change the model {times:.3g} times as much as the strongest of them alone: at {own} as much",
        f"for an equal share of each of them: {even}",
    ]


def _picture(found: Comparison):
    """The cosines of all pairs by block, beside how the energy of each file is spread."""
    names = [source.name for source in found.gathered.sources]
    blocks = list(dict.fromkeys(name for own in found.blocks.values() for name in own))
    rows = [
        Row(
            f"{names[i]} · {names[j]}",
            found.pairs[i, j].cosine,
            [own[name].cosine if name in own else None for name in blocks],
        )
        for (i, j), own in found.blocks.items()
    ]
    return lora_comparison(rows, blocks, {name: one.curve for name, one in zip(names, found.portraits)})


def copies_in(
    read: Callable[[str], Files], names: Sequence[str], base: Base, on_step: OnStep
) -> tuple[list[str], dict]:
    """Find the duplicates and near-copies among many files, each read once and once more if it is close to another.

    Returns the lines and the data; a file that cannot be read is said, and the others are compared.
    """
    sketches: list[Sketch] = []
    failed: dict[str, str] = {}
    for done, name in enumerate(names, 1):
        try:
            sketches.append(sketch_of(_alone(read(name), base)))
        except (LoRAError, FileFormatError, OSError) as error:
            failed[name] = str(error)
        on_step(done, len(names))
    found = [_confirmed(read, base, sketches[i].name, sketches[j].name) for i, j, _ in close_pairs(sketches)]
    close = [one for one in found if one["kinship"] in ("duplicate", "scaled", "near_copy", "opposite")]
    lines = [f"{one['files'][0]} and {one['files'][1]} {KINSHIP[one['kinship']]}" for one in close]
    lines = lines or [f"no copies among {len(sketches)} files"]
    lines += [f"⚠ {name} is left out: {why}" for name, why in list(failed.items())[:_WORST]]
    lines += [f"  and {len(failed) - _WORST} more" if len(failed) > _WORST else ""]
    return [line for line in lines if line], {"compared": len(sketches), "copies": close, "failed": failed}


def _alone(files: Files, base: Base) -> Gathered:
    return laid_out(files.sources, base)


def _confirmed(read: Callable[[str], Files], base: Base, one: str, other: str) -> dict:
    both = Files((*read(one).sources, *read(other).sources), ())
    found = compare(laid_out(both.sources, base))
    return {
        "files": [one, other],
        "kinship": judge(found, (0, 1)),
        "distance": distance_of(found, (0, 1)),
        "cosine": found.pairs[0, 1].cosine,
    }


def _middle(numbers: Sequence[int]) -> int:
    return sorted(numbers)[len(numbers) // 2] if numbers else 0


def _percent(number: float | None) -> str:
    return "-" if number is None else f"{100 * number:.3g} %"
