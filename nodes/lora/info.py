"""The node that inspects a LoRA file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from ...drawing.bar_chart import bar_chart
from ...files.errors import FileFormatError
from ...lora.formats.header import training_facts
from ...lora.kinds.adapters import LoRA
from ...lora.models.match import match
from ...lora.models.parts import describe_part
from ...lora.weights.low_rank import singular_values
from ...lora.weights.measuring import Size
from .. import catalog
from ..host import host
from ..reports import as_json, problem_shown, shown
from .beside import header_words, known_of
from .files import ParsedFile, lora_choice, read_chosen
from .report import count_parts, fact_line, facts, note_lines, relative_changes, size_line

if TYPE_CHECKING:
    from ..host.interface import Image

_STRONGEST, _LISTED = 4, 3000
_ENERGY = 0.99
_BESIDE = "whose weights the change is measured beside, all of them: this takes seconds to minutes."


class LoRAInfo:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Looks into a LoRA file, with or without a model: trigger words, base model, kinds, ranks, alphas, how strong "
        "each part is, how many directions its change really has, and what the header says of the training."
    )
    SEARCH_ALIASES = [
        "lora info",
        "lora metadata",
        "trigger words",
        "trigger word",
        "activation text",
        "civitai info",
        "lora tags",
        "base model",
        "inspect lora",
        "lora rank",
        "analyze lora",
    ]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("report", "trigger_words", "picture")
    OUTPUT_TOOLTIPS = (
        "Everything found, as JSON.",
        "The words that the file or a note beside it names, else the commonest tags of the training pictures, with "
        "commas between.",
        "The strongest module's directions: how much of its change each one carries.",
    )
    FUNCTION = "look"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"file": lora_choice()},
            "optional": {
                "model": ("MODEL", {"tooltip": f"A diffusion model {_BESIDE}"}),
                "clip": ("CLIP", {"tooltip": f"A text encoder {_BESIDE}"}),
                "clip_model": ("CVL_CLIP_MODEL", {"tooltip": f"A whole CLIP {_BESIDE}"}),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None) -> bool:
        """Let a file that is gone pass: the node says it itself, and the rest of the workflow runs."""
        return True

    @classmethod
    def IS_CHANGED(cls, file: str, **_: object) -> str:
        return catalog.fingerprint("lora", file)

    def look(
        self, file: str, model: object | None = None, clip: object | None = None, clip_model: object | None = None
    ) -> dict:
        try:
            self.file = read = read_chosen(file)  # kept: not read again for other inputs
        except ValueError as error:  # said on the node, and nothing else of the workflow stops
            return problem_shown(str(error), outputs=3, report_at=0)
        targets = {"model": model, "clip": clip, "clip_model": clip_model}
        data = facts(read)
        known = known_of(read.path, *header_words(read))
        words = list(known.words or known.tags)
        listed, spectra = _modules(read), _spectra(read)
        data |= {
            "title": known.title,
            "base_model": known.base_model,
            "trigger_words": words,
            "tags": list(known.tags),
            "text_beside": known.text,
            "training": training_facts(read.metadata),
            "spectra": spectra,
            "bytes": read.size_bytes,
            "strengths": listed,
        }
        measured = _measure(read, {name: target for name, target in targets.items() if target is not None})
        data |= measured
        picture = _picture(data)
        results = (as_json(data), ", ".join(words), picture)
        lines, previews = _lines(read, data, measured), host.save_preview(picture, "cvl_lora")
        return shown(lines, data, results, previews, own=_own_words(data))


def _lines(read: ParsedFile, data: Mapping, measured: Mapping) -> list[str]:
    """What a person wants to know first, first: what is wrong, the words, the base model, then the weights."""
    words, unread = data["trigger_words"], read.file.unread
    lines = [f"⚠ {len(unread)} of its parts are not read: {describe_part(next(iter(unread)))}"] if unread else []
    from_tags = "" if words != data["tags"] else " (the commonest tags of its training)"
    lines += [f"trigger words: {', '.join(words)}{from_tags}" if words else "no trigger words are named"]
    base = data["base_model"] or data["family"]
    lines += [f"base model: {base}"] if base else []
    lines += [
        f"{data['file']}: {fact_line(data)}",
        f"{count_parts(data['modules'])}, {read.size_bytes / 2**20:.1f} MiB",
    ]
    lines += [f"at strength 1 {size_line(measured)}"] if measured else []
    lines += [data["text_beside"]] if data["text_beside"] else []
    lines += note_lines(read)
    lines += [
        f"strongest: {describe_part(module)}, {one['directions']} of {one['rank']} directions carry 99 % of its change"
        for module, one in data["spectra"].items()
    ]
    return lines + _training_lines(data)


def _training_lines(data: Mapping) -> list[str]:
    return [f"{name}: {value}" for name, value in list(data["training"].items())[:12]]


def _own_words(data: Mapping) -> list[str]:
    """What of the lines are words of the file, or of a note beside it."""
    return [", ".join(data["trigger_words"]), data["base_model"], data["text_beside"], *_training_lines(data)]


def _measure(read: ParsedFile, targets: Mapping[str, object]) -> dict:
    """The change relative to the weights of the targets, by block and in all, from whole weights; {} without targets.

    Raises:
        FileFormatError: none of the file's modules fits what is connected.
    """
    if not targets:
        return {}
    matches = {
        name: match(read.file, host.weights(target), partial(host.module_names, target))
        for name, target in targets.items()
    }
    norms = {adapter: read.norm_of(adapter) for found in matches.values() for adapter in found.found.values()}
    changes = {adapter: Size(norm**2) for adapter, norm in norms.items() if norm is not None}
    if not any(found.found for found in matches.values()):
        raise FileFormatError(
            read.path,
            "none of its modules has a place in what is connected; connect the MODEL or "
            "CLIP it was made for, or nothing",
        )
    sizes = {}
    for name, target in targets.items():
        places = [place for place, adapter in matches[name].found.items() if adapter in changes]
        found = host.norms(target, places, host.progress(len(places)))
        sizes[name] = {place: Size(norm**2) for place, norm in found.items()}
    strengths = {name: dict.fromkeys(found.found, 1.0) for name, found in matches.items()}
    blocks, together = relative_changes(matches, strengths, sizes, changes)
    return {"blocks": blocks, **together}


def _modules(read: ParsedFile) -> list[dict]:
    """Each module with its kind, rank, alpha and norm, the strongest first."""
    found = []
    for module, adapter in read.file.adapters.items():
        alpha, size = adapter.alpha, read.norm_of(adapter)
        found.append(
            {
                "module": module,
                "kind": adapter.kind,
                "rank": adapter.rank,
                "alpha": alpha,
                "norm": None if size is None else round(size, 6),
            }
        )
    return sorted(found, key=lambda one: -(one["norm"] or 0.0))[:_LISTED]


def _spectra(read: ParsedFile) -> dict[str, dict]:
    """The singular values of the strongest modules, and how many of them carry 99 % of the squares."""
    spectra = {}
    ranked = [one for one in _modules(read) if one["norm"] and isinstance(read.file.adapters[one["module"]], LoRA)]
    for one in ranked[:_STRONGEST]:
        adapter = read.file.adapters[one["module"]]
        values = singular_values(*adapter.factors()).tolist()[: adapter.rank]
        total, so_far, needed = sum(value**2 for value in values), 0.0, 0
        while needed < len(values) and so_far < _ENERGY * total:
            so_far += values[needed] ** 2
            needed += 1
        spectra[one["module"]] = {
            "norm": one["norm"],
            "rank": adapter.rank,
            "directions": needed,
            "values": [round(value, 6) for value in values],
        }
    return spectra


def _picture(data: Mapping) -> Image:
    """A bar chart of the strongest module's singular values; of the kinds in a file without a spectrum."""
    if not data["spectra"]:
        kinds = data["kinds"] or {"-": 1}
        total = sum(kinds.values())
        return bar_chart(list(kinds), [count / total for count in kinds.values()], data["file"])
    module, one = next(iter(data["spectra"].items()))
    squares = [value**2 for value in one["values"]]
    labels = [f"#{number}" for number in range(1, len(squares) + 1)]
    return bar_chart(labels, [square / sum(squares) for square in squares], module)


NODES = {"CVL_LoRAInfo": (LoRAInfo, "LoRA Info (CVL)")}
