"""Merging files into one: made, written, read back, and judged against the stack; for the node and the command."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...files.tensors import write_tensors
from ...lora.formats import read as formats
from ...lora.formats.header import named_words
from ...lora.formats.list_text import split_words
from ...lora.models.blocks import block_of
from ...lora.models.parts import describe_part
from ...lora.workshop.editing.header import merged_header
from ...lora.workshop.gathering import Gathered
from ...lora.workshop.merging.merge import Merged, merge
from ...lora.workshop.merging.methods import AVERAGE, SUM, Recipe
from ...lora.workshop.merging.verdict import Verdict, against_stack, at_strengths
from ...lora.workshop.naming import named
from ...lora.workshop.outcome import AS_THE_FILES, DTYPES, dtype_name
from ...lora.workshop.ranks import RULES, Rule
from ...lora.workshop.resizing import speller
from .sources import Base, Files, check_free, laid_out, lost_lines, short_lines, size_text, text_of

ALL = "all"  # of the singular values: nothing is cut
RANK_RULES = [ALL, *RULES]
_EQUAL = 1e-5  # |difference| / |stack| up to which a file is said to equal its stack
_ROUNDING = 0.01  # up to here the rounding of fp16 and bf16 may be all of it
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class MergeSettings:
    """How files are merged and written. keep: one of RANK_RULES, with its amount."""

    recipe: Recipe
    keep: str = ALL
    amount: float = 0.0
    dialect: str = "kohya"
    dtype: str = AS_THE_FILES
    words: str = ""

    @property
    def rule(self) -> Rule | None:
        return None if self.keep == ALL else Rule(self.keep, self.amount)


def merge_files(
    files: Files, base: Base, settings: MergeSettings, path: Path, on_step: OnStep
) -> tuple[list[str], dict]:
    """Merge files into one at `path`. Returns the lines for a person and the data for a program.

    Raises:
        ValueError: they cannot be merged, or the file cannot be written; the sentence says why.
    """
    if settings.dtype not in DTYPES:
        raise ValueError(f"the type is {settings.dtype!r}: expected one of {', '.join(DTYPES)}")
    rule = settings.rule
    check_free(path, files.parsed)
    gathered = laid_out(files.sources, base)
    header = merged_header(gathered.sources, {"method": settings.recipe.method, **_numbers(settings)})
    if words := split_words(settings.words):
        header["modelspec.trigger_phrase"] = ", ".join(words)
    merged = merge(
        gathered,
        settings.recipe,
        rule=rule,
        dtype=DTYPES[settings.dtype],
        weight_of=base.weight_of,
        spell=speller(gathered, settings.dialect, header),
        on_step=on_step,
    )
    adapters, unnamed = named(gathered, merged.adapters, settings.dialect)
    tensors, texts = formats.write(adapters, settings.dialect, header)
    write_tensors(path, tensors, texts)
    verdict = _verdict(gathered, settings.recipe, formats.read(tensors, texts), base)
    data = _data(merged, settings, path, verdict, texts)
    data["not_written"] = {text_of(place): why for place, why in unnamed.items()}
    return _lines(merged, rule, data), data


def _verdict(gathered: Gathered, recipe: Recipe, written: formats.LoRAFile, base: Base) -> Verdict:
    """The file as it is read back, against the stack; an average against the stack at its shares."""
    total = math.fsum(one.strength_model for one in gathered.sources)
    stack = at_strengths(gathered, 1 / total) if recipe.method == AVERAGE and total else gathered
    return against_stack(stack, written, base.weight_of)


def _numbers(settings: MergeSettings) -> dict[str, object]:
    recipe = settings.recipe
    found: dict[str, object] = {}
    if recipe.by_entry:
        found = {"density": recipe.density, "aligned": recipe.aligned}
        found |= {"seed": recipe.seed} if recipe.method != "ties" else {}
        found |= {"spread": recipe.spread} if recipe.method == "della" else {}
    if recipe.method == "slerp":
        found = {"position": recipe.position}
    return found | ({"keep": settings.keep, "amount": settings.amount} if settings.keep != ALL else {})


def _data(
    merged: Merged, settings: MergeSettings, path: Path, verdict: Verdict, header: Mapping[str, str]
) -> dict[str, object]:
    sources, ranks = merged.gathered.sources, [layer.rank for layer in merged.layers if layer.rank]
    blocks: dict[str, list[float]] = {}
    for layer in merged.layers:
        blocks.setdefault(block_of(layer.place), []).append(layer.norm**2)
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "method": settings.recipe.method,
        **_numbers(settings),
        "dialect": settings.dialect,
        "dtype": dtype_name(merged.dtype),
        "names_of": merged.gathered.layout.name if merged.gathered.layout else "the files themselves",
        "files": [
            {
                "name": one.name,
                "strength_model": one.strength_model,
                "strength_clip": one.strength_clip,
                "blocks": one.blocks,
                "modules": merged.gathered.modules_of(number),
            }
            for number, one in enumerate(sources)
        ],
        "weights": len(merged.adapters),
        "common": len(merged.gathered.common()),
        "ranks": [min(ranks), max(ranks)],
        "error": merged.error,
        "against_stack": {
            "difference": _finite(verdict.total),
            "worst": _finite(verdict.worst),
            "worst_part": text_of(verdict.place),
            "equal": verdict.total <= _EQUAL,
        },
        "blocks": {name: math.sqrt(math.fsum(squares)) for name, squares in blocks.items()},
        "layers": [
            {
                "part": text_of(layer.place),
                "ranks": list(layer.ranks),
                "rank": layer.rank,
                "error": _finite(layer.error),
                "from_stack": _finite(layer.from_stack),
                "norm": layer.norm,
            }
            for layer in merged.layers
        ],
        "cancelled": [text_of(place) for place in merged.nothing],
        "left_out": merged.gathered.left_out,
        "trigger_words": named_words(header),
    }


def _lines(merged: Merged, rule: Rule | None, data: Mapping) -> list[str]:
    low, high = data["ranks"]
    rank = f"rank {low}" if low == high else f"ranks {low} to {high}"
    name = Path(data["file"]).name
    count = len(data["files"])
    lines = [
        f"{name}: {count} LoRA(s) as one of {data['weights']} weights, {rank}, "
        f"{size_text(data['size_bytes'])}, {data['dialect']}, {data['dtype']}"
    ]
    lines.append(_stack_line(data))
    if data["error"] > _EQUAL:
        lines.append(f"what was cut and rounded off is {_percent(data['error'])} of what {data['method']} makes")
    dropped = [layer for layer in merged.layers if not layer.rank]
    lines += [f"⚠ {len(dropped)} weights have no room and are dropped" for _ in dropped[:1]]
    lines += short_lines(rule, [layer.exact for layer in merged.layers])
    if count > 1 and not data["common"]:
        lines.append(_apart_line(merged.gathered, data["method"]))
    if data["trigger_words"]:
        lines.append(f"trigger words: {', '.join(data['trigger_words'])}")
    if merged.nothing:
        lines.append(f"{len(merged.nothing)} weights are not in the file: their changes are nothing")
    if lost := data["not_written"]:
        lines.append(f"⚠ {len(lost)} of its weights are not written")
        lines += [f"  {describe_part(place)}: {why}" for place, why in list(lost.items())[:5]]
    return lines + lost_lines(merged.gathered)


def _apart_line(gathered: Gathered, method: str) -> str:
    """What it means that no two files change the same weight: legal within one model, and odd without a known one."""
    if gathered.own:
        return "⚠ they have no weight in common, and no model is known that has all of them: are they for the same one?"
    if method == SUM:
        return "they have no weight in common: the file holds them side by side"
    return (
        f"⚠ they have no weight in common, so that {method} has nothing to weigh against each other: sum is the stack"
    )


def _stack_line(data: Mapping) -> str:
    found = data["against_stack"]
    worst = f"{describe_part(found['worst_part'])}, {_small(found['worst'])}"
    if found["equal"]:
        return f"✓ loaded at 1 it equals the stack to {_small(found['difference'])} (at worst {worst})"
    share = _percent(found["difference"]) if found["difference"] is not None else "everything"
    sign = "⚠ " if found["difference"] is None or found["difference"] > _ROUNDING else ""
    return f"{sign}loaded at 1 it differs from the stack by {share} (at worst {worst})"


def _small(number: float | None) -> str:
    return "wholly" if number is None else "1e-08" if number < 1e-8 else f"{number:.1g}"


def _percent(number: float) -> str:
    return f"{100 * number:.3g} %"


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
