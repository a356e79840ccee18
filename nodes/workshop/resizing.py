"""Resizing a file: read, cut, written, and what that lost; for the node and the command."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...drawing.bar_chart import bar_chart
from ...files.tensors import write_tensors
from ...lora.formats.dialects import DIALECTS
from ...lora.formats.header import named_words
from ...lora.models.blocks import block_of
from ...lora.models.parts import describe_part
from ...lora.workshop.editing.header import kept_entries
from ...lora.workshop.naming import named
from ...lora.workshop.outcome import AS_THE_FILES, DTYPES, dtype_name
from ...lora.workshop.ranks import RULES, SIZE, Rule
from ...lora.workshop.resizing import CutLayer, Resized, resize, speller
from ..lora.files import ParsedFile
from .sources import AS_IT_IS, Base, check_free, laid_out, lost_lines, short_lines, size_text, source_of, text_of

RECIPE = "cvl_resize"  # the entry of the header that says what was done
OnStep = Callable[[int, int], None]
_WITH_AMOUNT = [rule for rule in RULES if rule != "automatic"]


@dataclass(frozen=True)
class ResizeSettings:
    """How a file is cut and written. keep: one of RULES, with its amount; most: the largest rank, 0 for none."""

    keep: str
    amount: float
    dialect: str = AS_IT_IS
    dtype: str = AS_THE_FILES
    most: int = 0

    @property
    def rule(self) -> Rule:
        if self.most < 0:
            raise ValueError(f"the largest rank is {self.most}: expected 1 or more, or 0 for none")
        return Rule(self.keep, self.amount, self.most or None)


def resize_file(
    parsed: ParsedFile, base: Base, settings: ResizeSettings, path: Path, on_step: OnStep
) -> tuple[list[str], dict, object]:
    """Resize a file into `path`. Returns the lines for a person, the data for a program, and the picture.

    Raises:
        ValueError: it cannot be cut by this rule, or the file cannot be written; the sentence says why.
    """
    rule = settings.rule
    if settings.dtype not in DTYPES:
        raise ValueError(f"the type is {settings.dtype!r}: expected one of {', '.join(DTYPES)}")
    own = parsed.file.dialect if parsed.file.dialect in DIALECTS else "kohya"
    dialect = own if settings.dialect == AS_IT_IS else settings.dialect
    if dialect not in DIALECTS:
        raise ValueError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    check_free(path, [parsed])
    gathered = laid_out([source_of(parsed, parsed.path.name)], base)
    header = kept_entries(parsed.metadata) | {RECIPE: _recipe(parsed, settings)}
    spell = speller(gathered, dialect, header)
    resized = resize(
        gathered, rule, dtype=DTYPES[settings.dtype], weight_of=base.weight_of, spell=spell, on_step=on_step
    )
    tensors, texts = spell(resized.adapters)
    write_tensors(path, tensors, texts)
    unnamed = named(gathered, resized.adapters, dialect)[1]
    data = _data(parsed, resized, settings, dialect, path)
    data["not_written"] = {text_of(place): why for place, why in unnamed.items()}
    data["trigger_words"] = named_words(texts)
    picture = error_chart(resized.layers, parsed.path.name)
    return _lines(parsed, resized, rule, data), data, picture


def _recipe(parsed: ParsedFile, settings: ResizeSettings) -> str:
    said: dict[str, object] = {"from": parsed.path.name, "keep": settings.keep}
    said |= {"amount": settings.amount} if settings.keep in _WITH_AMOUNT else {}
    return json.dumps(said | ({"most": settings.most} if settings.most else {}), ensure_ascii=False)


def _data(parsed: ParsedFile, resized: Resized, settings: ResizeSettings, dialect: str, path: Path) -> dict:
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "resized": parsed.path.name,
        "size_bytes_before": parsed.size_bytes,
        "keep": settings.keep,
        "amount": settings.amount if settings.keep in _WITH_AMOUNT else None,
        "most": settings.most or None,
        "dialect": dialect,
        "dtype": dtype_name(resized.dtype),
        "names_of": resized.gathered.layout.name if resized.gathered.layout else "the file itself",
        "weights": len(resized.adapters),
        "kept_whole": [text_of(place) for place in resized.whole],
        **errors_of(resized.layers, resized.error, resized.of_base),
        "left_out": resized.gathered.left_out,
    }


def errors_of(layers: Sequence[CutLayer], error: float, of_base: float | None) -> dict[str, object]:
    """What the layers lost, altogether, by block and one by one, for a program."""
    ranks, before = [layer.rank for layer in layers], [layer.before for layer in layers]
    return {
        "error": error,
        "error_of_base": of_base,
        "ranks": [min(ranks, default=0), max(ranks, default=0)],
        "ranks_before": [min(before, default=0), max(before, default=0)],
        "blocks": errors_by_block(layers),
        "layers": [
            {
                "part": text_of(layer.place),
                "rank_before": layer.before,
                "rank": layer.rank,
                "norm": layer.size,
                "error": layer.error,
                "error_of_base": layer.of_base,
            }
            for layer in layers
        ],
    }


def errors_by_block(layers: Sequence[CutLayer]) -> dict[str, float]:
    """What each block lost, over its change."""
    lost: dict[str, float] = {}
    total: dict[str, float] = {}
    for layer in layers:
        block = block_of(layer.place)
        lost[block] = lost.get(block, 0.0) + (layer.error * layer.size) ** 2
        total[block] = total.get(block, 0.0) + layer.size**2
    return {block: math.sqrt(lost[block] / total[block]) if total[block] else 0.0 for block in total}


def error_chart(layers: Sequence[CutLayer], title: str) -> object:
    """A bar for each block: the share of its change that is lost."""
    errors = {block: min(1.0, error) for block, error in errors_by_block(layers).items()} or {"-": 0.0}
    return bar_chart(list(errors), list(errors.values()), title)


def _lines(parsed: ParsedFile, resized: Resized, rule: Rule, data: Mapping) -> list[str]:
    name = Path(data["file"]).name
    size, was = size_text(data["size_bytes"]), size_text(data["size_bytes_before"])
    ranks, cut_from = _ranks(data["ranks"]), _ranks(data["ranks_before"])
    form = f"{data['dialect']}, {data['dtype']}"
    lines = [f"{name}: {parsed.path.name} cut from {cut_from} to {ranks}, {was} to {size}, {form}"]
    lines.append(f"lost: {percent(resized.error)} of its change{_beside(resized.of_base)}")
    lines += worst_lines(resized.layers)
    lines += short_lines(rule, [layer.before for layer in resized.layers])
    dropped = [layer for layer in resized.layers if not layer.rank and layer.size]
    lines += [f"⚠ {len(dropped)} weights have no room and are dropped" for _ in dropped[:1]]
    still = [layer for layer in resized.layers if not layer.size]
    lines += [f"{len(still)} weights change nothing and are left out" for _ in still[:1]]
    if rule.name == SIZE and all(layer.rank == layer.before for layer in resized.layers if layer.size):
        lines.append(f"the whole file fits into {rule.amount:g} MB: nothing is cut")
    if resized.whole:
        lines.append(f"{len(resized.whole)} norms and biases are kept as they are")
    if lost := data["not_written"]:
        lines.append(f"⚠ {len(lost)} of its weights are not written")
        lines += [f"  {describe_part(place)}: {why}" for place, why in list(lost.items())[:5]]
    return lines + lost_lines(resized.gathered)


def worst_lines(layers: Sequence[CutLayer]) -> list[str]:
    """The layer that lost most of its change, if any did."""
    worst = max(layers, key=lambda layer: layer.error if layer.rank else -1.0, default=None)
    if worst is None or not worst.rank:
        return []
    part = describe_part(text_of(worst.place))
    return [f"at worst {percent(worst.error)}: {part}, rank {worst.before} to {worst.rank}"]


def _beside(of_base: float | None) -> str:
    return "" if of_base is None else f", {percent(of_base)} of the model's weights"


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if ranks[0] == ranks[1] else f"ranks {ranks[0]} to {ranks[1]}"


def percent(number: float) -> str:
    return f"{100 * number:.3g} %"
