"""Extracting a LoRA from two models: files or connected ones, weight by weight into a file; for the node and the
command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...files.errors import FileFormatError
from ...files.folder import is_part_of
from ...files.tensors import Spool
from ...lora.models.parts import describe_part
from ...lora.workshop.editing.header import kept_entries
from ...lora.workshop.extracting.extraction import Extracted, extract, record
from ...lora.workshop.extracting.pairing import Model, pair
from ...lora.workshop.extracting.spelling import Piecewise, spell_of
from ...lora.workshop.outcome import DTYPES
from ...lora.workshop.ranks import RULES, SIZE, TOTAL, Rule
from ..host import host
from .resizing import error_chart, errors_of, percent, worst_lines
from .sources import open_checkpoint, short_lines, size_text

RULES_OF_MODELS = [rule for rule in RULES if rule != TOTAL]  # whose sum takes all singular values of every weight
RECIPE = "cvl_extract"  # the entry of the header that says what was done
TYPES = [name for name in DTYPES if DTYPES[name] is not None]
_SHOWN = 5
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class ExtractSettings:
    """How a difference is cut and written. keep: one of RULES_OF_MODELS, with its amount; most: the largest rank."""

    keep: str
    amount: float
    most: int
    dialect: str = "kohya"
    dtype: str = "fp16"
    with_vectors: bool = True

    @property
    def rule(self) -> Rule:
        if self.keep not in RULES_OF_MODELS:
            raise ValueError(f"the rule is {self.keep!r}: expected one of {', '.join(RULES_OF_MODELS)}")
        return Rule(self.keep, self.amount, self.most)


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two models: its weights, the file that it was read from, if any, and the texts of that."""

    model: Model
    path: Path | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def side_of_file(path: Path) -> Iterator[Side]:
    """A checkpoint, a diffusion model or a text encoder, open as long as it is used; a tensor is read at a time.

    Raises:
        FileFormatError: it cannot be read, or is no model.
    """
    with open_checkpoint(path) as (file, found, base):
        yield Side(Model(path.name, found.shapes, base.weight_of), file.path, file.metadata)


def side_of(name: str, targets: Sequence[object]) -> Side:
    """Connected models and text encoders as one model, with the LoRAs that are on them."""
    owners: dict[str, object] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for target in targets:
        own = host.weights(target)
        shapes |= own
        owners |= dict.fromkeys(own, target)
    return Side(Model(name, shapes, lambda key: host.base_weight(owners[key], key, changed=True)))


def extract_file(
    tuned: Side, base: Side, settings: ExtractSettings, path: Path, on_step: OnStep
) -> tuple[list[str], dict, object]:
    """Extract the difference into `path`. Returns the lines for a person, the data for a program, and the picture.

    Raises:
        ValueError: the two cannot be compared, or the file cannot be written; the sentence says why.
    """
    rule = settings.rule
    if settings.dtype not in TYPES:
        raise ValueError(f"the type is {settings.dtype!r}: expected one of {', '.join(TYPES)}")
    for side in (tuned, base):
        if side.path is not None and is_part_of(path, side.path):
            raise FileFormatError(path, "it is one of the files that this is made of: choose another name to write to")
    shared, apart = _shared(tuned.model, base.model)
    models = pair(*shared)
    header = _header(tuned, base, settings)
    dtype = DTYPES[settings.dtype]
    with Spool(path) as spool:
        pieces = Piecewise(models.base.shapes, settings.dialect, spool.put)
        spell = spell_of(models.base.shapes, settings.dialect, header) if rule.name == SIZE else None
        found = extract(models, rule, dtype=dtype, with_vectors=settings.with_vectors, spell=spell, on_step=on_step)
        extracted = _in_order(record(found, pieces.take), models.weights)
        spool.finish(pieces.header(header))
    data = _data(tuned, base, settings, extracted, path) | {"not_compared": apart}
    picture = error_chart(extracted.layers, "||dW - LoRA|| / ||dW||")
    return _lines(extracted, rule, data), data, picture


def _in_order(extracted: Extracted, keys: Iterable[str]) -> Extracted:
    """The same, with its layers as they stand in the model."""
    place = {key: number for number, key in enumerate(keys)}
    return replace(extracted, layers=tuple(sorted(extracted.layers, key=lambda layer: place[str(layer.place)])))


def _shared(tuned: Model, base: Model) -> tuple[tuple[Model, Model], dict[str, str]]:
    """(base, tuned) with the parts (the diffusion model, each text encoder) that both have, and the others."""
    parts = [{key.partition(".")[0] for key in model.shapes} for model in (base, tuned)]
    both = parts[0] & parts[1]
    apart = dict.fromkeys(sorted(parts[0] - both), f"only {base.name} has it")
    apart |= dict.fromkeys(sorted(parts[1] - both), f"only {tuned.name} has it")
    if not both:
        raise ValueError(
            f"{base.name} has {' and '.join(sorted(parts[0]))} and {tuned.name} has {' and '.join(sorted(parts[1]))}: "
            "expected two models of one kind"
        )

    def cut(model: Model) -> Model:
        return replace(model, shapes={key: own for key, own in model.shapes.items() if key.partition(".")[0] in both})

    return (cut(base), cut(tuned)), apart


def _header(tuned: Side, base: Side, settings: ExtractSettings) -> dict[str, str]:
    """The texts of the tuned model that hold for the file too, and what was done."""
    kept = {name: text for name, text in kept_entries(tuned.metadata).items() if name.startswith("modelspec.")}
    if architecture := kept.get("modelspec.architecture"):
        kept["modelspec.architecture"] = architecture if architecture.endswith("/lora") else f"{architecture}/lora"
    said = {"tuned": tuned.model.name, "base": base.model.name, "keep": settings.keep, "most": settings.most}
    said |= {} if settings.keep == "automatic" else {"amount": settings.amount}
    return kept | {
        "modelspec.merged_from": f"{tuned.model.name}, {base.model.name}",
        "ss_sd_model_name": base.model.name,
        RECIPE: json.dumps(said, ensure_ascii=False),
    }


def _data(tuned: Side, base: Side, settings: ExtractSettings, extracted: Extracted, path: Path) -> dict:
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "tuned": tuned.model.name,
        "base": base.model.name,
        "keep": settings.keep,
        "amount": None if settings.keep == "automatic" else settings.amount,
        "most": settings.most,
        "dialect": settings.dialect,
        "dtype": settings.dtype,
        "weights": sum(layer.rank > 0 for layer in extracted.layers),
        "equal": list(extracted.equal),
        "whole": list(extracted.whole),
        "at_the_largest_rank": list(extracted.capped),
        "left_out": extracted.left_out,
        **errors_of(extracted.layers, extracted.error, extracted.of_base),
    }


def _lines(extracted: Extracted, rule: Rule, data: Mapping) -> list[str]:
    ranks = [layer.rank for layer in extracted.layers if layer.rank]
    low, high = min(ranks, default=0), max(ranks, default=0)
    span = f"rank {high}" if low == high else f"ranks {low} to {high}"
    lines = [
        f"{Path(data['file']).name}: {data['tuned']} minus {data['base']}, {len(ranks)} weights, {span}, "
        f"{size_text(data['size_bytes'])}, {data['dialect']}, {data['dtype']}",
        f"lost: {percent(extracted.error)} of the difference, {percent(extracted.of_base)} of the model's weights",
        *worst_lines(extracted.layers),
        *short_lines(rule, [layer.before for layer in extracted.layers]),
    ]
    if extracted.whole:
        lines.append(f"{len(extracted.whole)} norms, biases and embeddings are written as differences")
    if extracted.equal:
        lines.append(f"{len(extracted.equal)} weights are equal in both and left out")
    if extracted.capped:
        lines.append(
            f"⚠ {len(extracted.capped)} weights have more than the largest rank, {data['most']}, lets through: a full "
            "fine-tune is no LoRA; raise it for a smaller loss"
        )
    reasons: dict[str, list[str]] = {}
    for key, why in extracted.left_out.items():
        reasons.setdefault(why, []).append(key)
    lines += [f"⚠ {len(extracted.left_out)} differences are not written" for _ in list(reasons)[:1]]
    for why, keys in list(reasons.items())[:_SHOWN]:
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        lines.append(f"  {describe_part(keys[0])}{more}: {why}")
    lines += [f"  and {len(reasons) - _SHOWN} more reasons, in the report"] if len(reasons) > _SHOWN else []
    lines += [f"not compared: {part}: {why}" for part, why in data.get("not_compared", {}).items()]
    return lines


@contextmanager
def sides(
    tuned: Path | Sequence[object], base: Path | Sequence[object], name_tuned: str, name_base: str
) -> Iterator[tuple[Side, Side]]:
    """Both models, each a file or what is connected, open as long as they are used.

    Raises:
        FileFormatError: a file cannot be read, or is no model.
    """
    with ExitStack() as opened:
        found = [
            opened.enter_context(side_of_file(one)) if isinstance(one, Path) else side_of(name, one)
            for one, name in ((tuned, name_tuned), (base, name_base))
        ]
        yield found[0], found[1]
