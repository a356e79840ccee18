"""The node that converts a LoRA file to another dialect."""

from __future__ import annotations

from collections.abc import Mapping

from ...files.errors import FileFormatError
from ...files.tensors import write_tensors
from ...lora.families.table import FAMILIES
from ...lora.formats import read as formats
from ...lora.kinds.adapters import Adapter, LoRAError
from ...lora.models.conversion import rename
from ...lora.models.families import refuse_other_family, tell
from ...lora.models.match import key_of, match
from ...lora.models.parts import describe_part, describe_parts
from ...lora.models.published import PUBLISHED, model_for
from .. import catalog
from ..host import host
from ..reports import as_json, problem_shown, shown
from .files import ParsedFile, lora_choice, read_chosen
from .report import count_parts

DIALECTS = ["kohya", "diffusers", "peft"]
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


class ConvertLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Writes a LoRA file in another dialect, with its true scale, into the output folder. The names are those of "
        "the model connected, or without one of the family it fits; what has no name is in the report."
    )
    SEARCH_ALIASES = [
        "convert lora",
        "kohya",
        "diffusers",
        "PEFT",
        "save lora",
        "export lora",
        "lora format",
        "rename lora keys",
    ]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("path", "report")
    OUTPUT_TOOLTIPS = ("Where the file was written.", "What was written, and what was not and why, as JSON.")
    FUNCTION = "convert"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "file": lora_choice(),
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

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None) -> bool:
        """Let a file that is gone pass: the node says it itself, and the rest of the workflow runs."""
        return True

    @classmethod
    def IS_CHANGED(cls, file: str, **_: object) -> str:
        return catalog.fingerprint("lora", file)

    def convert(
        self,
        file: str,
        dialect: str,
        filename_prefix: str,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
    ) -> dict:
        connected = [target for target in (model, clip, clip_model) if target is not None]
        try:
            return _convert(file, dialect, filename_prefix, connected)
        except ValueError as error:
            if connected:
                raise
            # such a node may lie unused beside a workflow: it is said on the node, and the rest runs
            return problem_shown(str(error), outputs=2, report_at=1)


def _convert(file: str, dialect: str, filename_prefix: str, connected: list[object]) -> dict:
    """Write the file and say what was written.

    Raises:
        ValueError: it cannot be read or written in this dialect, or nothing in it has a name there.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    read = read_chosen(file)
    names_of, layouts = _layouts(read, connected)
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
    lines = [f"{path.name}: {count_parts(len(adapters))} written the {dialect} way, with the names of {names_of}"]
    lines += [f"⚠ {len(lost)} of its parts are not written"] if lost else []
    lines += [f"  not written: {describe_part(name)}: {describe_parts(why)}" for name, why in list(lost.items())[:5]]
    lines += [f"  and {len(lost) - 5} more"] if len(lost) > 5 else []
    return shown(lines, data, (str(path), as_json(data)))


def _layouts(read: ParsedFile, connected: list[object]) -> tuple[str, list[Mapping]]:
    """The keys and shapes whose names are written, and whose they are: the connected models' or a published model's."""
    if connected:
        layouts = [host.weights(target) for target in connected]
        try:
            for shapes in layouts:
                refuse_other_family(read.file, shapes)
        except LoRAError as error:
            raise FileFormatError(read.path, str(error)) from error
        return "what is connected", layouts
    if found := model_for(read.file):
        whose = f"{found[0]}, as published" if found[0] in PUBLISHED else f"{found[0]}, by the names in the file"
        return whose, [found[1]]
    if families := tell(read.file).families:
        raise FileFormatError(
            read.path,
            f"its names are those of {', '.join(families)} alike: connect the MODEL that it is for",
        )
    raise FileFormatError(
        read.path,
        "none of its modules has a place in a model whose names are known here "
        f"(SD 1, SD 2, SDXL, {', '.join(family.name for family in FAMILIES)}); connect the MODEL or CLIP it is for",
    )


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


NODES = {"CVL_ConvertLoRA": (ConvertLoRA, "Convert LoRA (CVL)")}
