"""The node that edits a LoRA file."""

from __future__ import annotations

from ...files.images import jpeg_address
from ...lora.formats.list_text import split_words
from ...lora.workshop.editing.header import HeaderEdit
from .. import catalog
from ..checks import check_image
from ..host import host
from ..lora.files import lora_choice, read_chosen
from ..reports import as_json, problem_shown, shown
from .editing import EditSettings, edit_file
from .sources import CLIP, CLIP_MODEL, DTYPE, MODEL, OWN_OR_DIALECT, base_of, check_free, prefix

_OPTIONAL = {
    "thumbnail": ("IMAGE", {"tooltip": "The picture that programs show for the file, if any."}),
    "model": MODEL,
    "clip": CLIP,
    "clip_model": CLIP_MODEL,
    "keep": (
        "STRING",
        {
            "default": "",
            "advanced": True,
            "tooltip": "The blocks that stay, such as IN07-IN08, attn2 or double.0-7. Empty: all.",
        },
    ),
    "drop": (
        "STRING",
        {"default": "", "advanced": True, "tooltip": "The blocks that go, such as text or MID."},
    ),
    "alpha": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 100000.0,
            "step": 0.01,
            "advanced": True,
            "tooltip": "The alpha to write; the factors take up the difference, so the change stays. 0: as it is.",
        },
    ),
    "title": ("STRING", {"default": "", "advanced": True, "tooltip": "The title. Empty: as it is."}),
    "entries": (
        "STRING",
        {
            "default": "",
            "multiline": True,
            "advanced": True,
            "tooltip": "Entries of the header, one a line: name = text. Without text the entry is removed.",
        },
    ),
}


class EditLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Writes a changed copy of a LoRA file: trigger words, title, thumbnail and any entry of its header, its "
        "strength, alpha, type and dialect, and which blocks stay. With the header alone its tensors stay bit by bit."
    )
    SEARCH_ALIASES = [
        "edit lora",
        "lora metadata",
        "metadata editor",
        "trigger words",
        "thumbnail",
        "alpha",
        "remove blocks",
        "lora dtype",
        "fp16 lora",
        "bake strength",
        "rename lora",
    ]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("path", "report")
    OUTPUT_TOOLTIPS = ("Where the file was written.", "What was changed, what was not and why, as JSON.")
    FUNCTION = "edit"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "file": lora_choice(),
                "words": (
                    "STRING",
                    {"default": "", "tooltip": "The trigger words, with commas between. Empty: as they are."},
                ),
                "strength": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": -100.0,
                        "max": 100.0,
                        "step": 0.01,
                        "tooltip": "What 1 in the new file is in the old one: 0.7 makes it weaker for good.",
                    },
                ),
                "dtype": DTYPE,
                "dialect": OWN_OR_DIALECT,
                "filename_prefix": prefix("loras/edited"),
            },
            "optional": dict(_OPTIONAL),
        }

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None) -> bool:
        """Let a file that is gone pass: the node says it itself, and the rest of the workflow runs."""
        return True

    @classmethod
    def IS_CHANGED(cls, file: str, **_: object) -> str:
        return catalog.fingerprint("lora", file)

    def edit(
        self,
        file: str,
        words: str,
        strength: float,
        dtype: str,
        dialect: str,
        filename_prefix: str,
        thumbnail: object | None = None,
        model: object | None = None,
        clip: object | None = None,
        clip_model: object | None = None,
        keep: str = "",
        drop: str = "",
        alpha: float = 0.0,
        title: str = "",
        entries: str = "",
    ) -> dict:
        connected = any(one is not None for one in (thumbnail, model, clip, clip_model))
        try:
            self.file = read = read_chosen(file)  # kept: not read again for other inputs
            if thumbnail is not None:
                check_image(thumbnail)
            header = header_edit(words, title, entries, None if thumbnail is None else jpeg_address(thumbnail))
            settings = EditSettings(header, strength, alpha, dtype, dialect, keep, drop)
            path = host.output_path(filename_prefix, ".safetensors")
            check_free(path, [read])
            lines, data = edit_file(read, base_of(model, clip, clip_model), settings, path)
        except ValueError as error:
            if connected:
                raise
            # such a node may lie unused beside a workflow: it is said on the node, and the rest runs
            return problem_shown(str(error), outputs=2, report_at=1)
        return shown(lines, data, (data["file"], as_json(data)), own=data["trigger_words"])


def header_edit(words: str, title: str, entries: str, thumbnail: str | None = None) -> HeaderEdit:
    """The edit of a header that is written as text: entries are `name = text`, and without a text they go.

    Raises:
        ValueError: a line without "=".
    """
    put: dict[str, str] = {}
    remove = []
    for line in filter(None, (line.strip() for line in entries.splitlines())):
        name, mark, text = (part.strip() for part in line.partition("="))
        if not mark or not name:
            raise ValueError(f"an entry of the header is written name = text, but {line[:80]!r} came")
        if text:
            put[name] = text
        else:
            remove.append(name)
    return HeaderEdit(put, remove, split_words(words) if words.strip() else None, title.strip() or None, thumbnail)


NODES = {"CVL_EditLoRA": (EditLoRA, "Edit LoRA (CVL)")}
