"""The nodes that inspect a LoRA file and convert it to another dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...drawing.bar_chart import bar_chart
from ...files.errors import FileFormatError
from ...files.tensors import write_tensors
from ...lora.formats import read as formats
from ...lora.formats.header import training_facts, trigger_words
from ...lora.kinds.adapters import Adapter, LoRA, LoRAError
from ...lora.models.conversion import rename
from ...lora.models.match import key_of, match
from ...lora.models.parts import describe_part, describe_parts
from ...lora.models.published import PUBLISHED, published_model
from ...lora.weights.low_rank import singular_values
from ...lora.weights.measuring import Size
from .. import catalog
from ..host import host
from ..reports import as_json, shown
from .files import ParsedFile, read_lora
from .report import fact_line, facts, note_lines, relative_changes, size_line

if TYPE_CHECKING:
    from ...drawing.bar_chart import Tensor as Image  # [1, H, W, 3] in 0..1; a node hands pictures on unopened

DIALECTS = ["kohya", "diffusers", "peft"]
_STRONGEST, _LISTED = 4, 3000
_ENERGY = 0.99
_NOT_KEPT = (
    "adapter_config",
    "lora_adapter_metadata",
    "format",
    "sshs_model_hash",
    "sshs_legacy_hash",
    "modelspec.hash_sha256",
    "modelspec.thumbnail",
)
_LONGEST_KEPT = 100_000
_BESIDE = "whose weights the change is measured beside, all of them: this takes seconds to minutes."


class LoRAInfo:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Looks into a LoRA file, with or without a model: kinds, ranks, alphas, how strong each module is, how many "
        "directions its change really has, trigger words, and what the header says of the training."
    )
    SEARCH_ALIASES = ["lora metadata", "trigger words", "inspect lora", "lora rank"]
    RETURN_TYPES = ("STRING", "STRING", "IMAGE")
    RETURN_NAMES = ("report", "trigger_words", "picture")
    OUTPUT_TOOLTIPS = (
        "Everything found, as JSON.",
        "The author's phrase, else the commonest tags of the training pictures, with commas between.",
        "The strongest module's directions: how much of its change each one carries.",
    )
    FUNCTION = "look"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"file": (catalog.choices("lora"), {"tooltip": "LoRA of any kind, by any tool."})},
            "optional": {
                "model": ("MODEL", {"tooltip": f"A diffusion model {_BESIDE}"}),
                "clip": ("CLIP", {"tooltip": f"A text encoder {_BESIDE}"}),
                "clip_model": ("CVL_CLIP_MODEL", {"tooltip": f"A whole CLIP {_BESIDE}"}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file: str, **_: object) -> str:
        return catalog.fingerprint("lora", file)

    def look(
        self, file: str, model: object | None = None, clip: object | None = None, clip_model: object | None = None
    ) -> dict:
        self.file = read = read_lora(catalog.path("lora", file))  # kept, so that it is not read again for other inputs
        targets = {"model": model, "clip": clip, "clip_model": clip_model}
        data = facts(read)
        words = [*trigger_words(read.metadata), *read.file.embeddings]
        listed, spectra = _modules(read), _spectra(read)
        data |= {
            "trigger_words": words,
            "training": training_facts(read.metadata),
            "spectra": spectra,
            "bytes": read.size_bytes,
            "strengths": listed,
        }
        lines = [fact_line(data), f"{data['modules']} modules, {read.size_bytes / 2**20:.1f} MiB"]
        lines += [f"trigger words: {', '.join(words)}"] if words else ["the header names no trigger words"]
        lines += [
            f"{describe_part(module)}: norm {one['norm']:.4g}, {one['directions']} of {one['rank']} directions carry 99 %"
            for module, one in spectra.items()
        ]
        measured = _measure(read, {name: target for name, target in targets.items() if target is not None})
        data |= measured
        lines += [f"at strength 1 {size_line(measured)}"] if measured else []
        lines += [f"{len(read.file.unread)} modules are not read"] if read.file.unread else []
        lines += [*note_lines(read), *(f"{name}: {value}" for name, value in list(data["training"].items())[:12])]
        picture = _picture(data)
        return shown(lines, data, (as_json(data), ", ".join(words), picture), host.save_preview(picture, "cvl_lora"))


class ConvertLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Writes a LoRA file in another dialect, with its true scale, into the output folder. The names are those of "
        "the model connected, or without one of the published model it fits; what has no name is in the report."
    )
    SEARCH_ALIASES = ["kohya", "diffusers", "PEFT", "save lora", "lora format"]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("path", "report")
    OUTPUT_TOOLTIPS = ("Where the file was written.", "What was written, and what was not and why, as JSON.")
    FUNCTION = "convert"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "file": (catalog.choices("lora"), {"tooltip": "LoRA of any kind, by any tool."}),
                "dialect": (
                    DIALECTS,
                    {"tooltip": "kohya holds every kind and has alphas; diffusers and peft hold LoRA, peft DoRA too."},
                ),
                "filename_prefix": (
                    "STRING",
                    {"default": "loras/converted", "tooltip": "Folder and beginning of the name in the output folder."},
                ),
            },
            "optional": {
                "model": ("MODEL", {"tooltip": "The diffusion model that the file is for, if it is for one."}),
                "clip": ("CLIP", {"tooltip": "The text encoder that the file is for, if it is for one."}),
                "clip_model": ("CVL_CLIP_MODEL", {"tooltip": "The whole CLIP that the file is for, if it is for one."}),
            },
        }

    def convert(
        self,
        file: str,
        dialect: str,
        filename_prefix: str,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
    ) -> dict:
        targets = {"model": model, "clip": clip, "clip_model": clip_model}
        if dialect not in DIALECTS:
            raise ValueError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
        read = read_lora(catalog.path("lora", file))
        names_of, layouts = _layouts(read, [target for target in targets.values() if target is not None])
        adapters, lost = _rename_modules(read, names_of, layouts, dialect)
        try:
            tensors, header = formats.write(adapters, dialect, _keep_true_texts(read.metadata))
        except LoRAError as error:
            raise FileFormatError(read.path, str(error)) from error
        path = host.output_path(filename_prefix, ".safetensors")
        write_tensors(path, tensors, header)
        data = {
            "file": str(path),
            "dialect": dialect,
            "modules": len(adapters),
            "names_of": names_of,
            "not_written": lost,
        }
        lines = [f"{path.name}: {len(adapters)} modules as {dialect}, with the names of {names_of}"]
        lines += [f"not written: {describe_part(name)}: {describe_parts(why)}" for name, why in list(lost.items())[:5]]
        lines += [f"and {len(lost) - 5} more"] if len(lost) > 5 else []
        return shown(lines, data, (str(path), as_json(data)))


def _measure(read: ParsedFile, targets: Mapping[str, object]) -> dict:
    """The change relative to the weights of the targets, by block and in all, every weight read whole; {} without targets.

    Raises:
        FileFormatError: none of the file's modules fits what is connected.
    """
    if not targets:
        return {}
    matches = {name: match(read.file, host.weights(target)) for name, target in targets.items()}
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
        kinds = data["kinds"] or {"nothing that is read": 1}
        total = sum(kinds.values())
        return bar_chart(list(kinds), [count / total for count in kinds.values()], f"kinds in {data['file']}")
    module, one = next(iter(data["spectra"].items()))
    squares = [value**2 for value in one["values"]]
    labels = [f"direction {number}" for number in range(1, len(squares) + 1)]
    return bar_chart(
        labels, [square / sum(squares) for square in squares], f"share of the change in {describe_part(module)}"
    )


def _layouts(read: ParsedFile, connected: list[object]) -> tuple[str, list[Mapping]]:
    """The keys and shapes whose names are written, and whose they are: the connected models' or a published model's."""
    if connected:
        return "what is connected", [host.weights(target) for target in connected]
    found = published_model(read.file)
    if found is None:
        raise FileFormatError(
            read.path,
            "none of its modules has a place in a model whose names are known here "
            f"({', '.join(PUBLISHED)}); connect the MODEL or CLIP it is for",
        )
    model, shapes = found
    return f"{model}, as published", [shapes]


def _rename_modules(
    read: ParsedFile, names_of: str, layouts: list[Mapping], dialect: str
) -> tuple[dict[str, Adapter], dict[str, str]]:
    """The dialect's module names -> adapters, and the file's names of the modules without one -> the reason."""
    adapters: dict[str, Adapter] = {}
    homeless: dict[str, str] = dict(read.file.unread)
    homeless |= dict.fromkeys(read.file.embeddings, "a learned word, which only Text Encode reads")
    named_modules: set[str] = set()
    for shapes in layouts:
        found = match(read.file, shapes)
        result = rename(found.found, shapes, dialect)
        adapters = {**result.named, **adapters}
        homeless |= {found.modules.get(place, key_of(place)): why for place, why in result.unnamed.items()}
        homeless |= found.misfit
        named_modules |= set(found.modules.values())
    if not adapters:
        raise FileFormatError(
            read.path,
            f"none of its modules fits {names_of}, which tells the names; "
            "connect the MODEL or CLIP that it was made for",
        )
    without = [module for module in read.file.adapters if module not in named_modules and module not in homeless]
    return adapters, homeless | dict.fromkeys(without, f"it has no place in {names_of}")


def _keep_true_texts(metadata: Mapping[str, str]) -> dict[str, str]:
    """The texts of the header that hold for the converted file too."""
    return {
        name: text
        for name, text in metadata.items()
        if name not in _NOT_KEPT
        and not name.endswith(":rank")
        and text != "<embed>"
        and len(text) <= _LONGEST_KEPT
        and name not in ("unet", "text_encoder")  # cloneofsimo's lists of layer classes
    }


NODES = {
    "CVL_LoRAInfo": (LoRAInfo, "LoRA Info (CVL)"),
    "CVL_ConvertLoRA": (ConvertLoRA, "Convert LoRA (CVL)"),
}
