"""A folder of pictures made searchable: encoded once, kept in an index."""

from __future__ import annotations

import json
import time

from ...files.decoding.ground import WHITE
from ...index.adding import add_picture
from ...index.update import update
from ...index.writing import writing
from ..checks import check_image
from ..clip import features
from ..clip.ground import GROUND
from ..clip.precision import EXACT, WIDGET
from ..host import host
from ..host.interface import Image, Looking
from ..host.shared.data_folders import Places
from ..reports import as_json, shown
from . import indexing


class IndexFolder:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Makes a folder of pictures searchable by words and pictures: each is encoded once and kept in an index in the "
        "output folder. Run again, only what is new or has changed is encoded, and what was deleted is forgotten. It "
        "can be cancelled at any time and goes on from there."
    )
    SEARCH_ALIASES = ["image search", "index images", "embed folder", "image database", "CLIP index", "gallery"]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("index", "report")
    OUTPUT_TOOLTIPS = (
        "The name of the index, for Search Images and Find Duplicates; linked there, they run after this.",
        "How many pictures are new, changed, deleted and skipped, and why, as JSON.",
    )
    FUNCTION = "build"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_model": (
                    features.MODEL_TYPES,
                    {"tooltip": "What encodes the pictures. Search with the same model."},
                ),
                "folder": (["output", "input"], {"tooltip": "ComfyUI's output or input folder."}),
                "subfolder": ("STRING", {"default": "", "tooltip": "A folder below it; empty: the folder itself."}),
                "index": ("STRING", {"default": "pictures", "tooltip": "The name under which the index is kept."}),
            },
            "optional": {
                "recursive": ("BOOLEAN", {"default": True, "tooltip": "Also folders below it, but no hidden ones."}),
                "batch": (
                    "INT",
                    {
                        "default": 32,
                        "advanced": True,
                        "min": 1,
                        "max": 512,
                        "tooltip": "How many pictures are encoded at a time; fewer where a card's memory has no room "
                        "for them, which the report says.",
                    },
                ),
                "image": (
                    "IMAGE",
                    {
                        "tooltip": "Pictures to put into the folder first (output only; it is made if need be), under "
                        "names made from their pixels: none is there twice."
                    },
                ),
                "after": ("*", {"tooltip": "Anything that must be done first, a node that saves pictures say."}),
                "precision": WIDGET,
                "ground": GROUND,
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, str]) -> bool | str:
        """Check the types of the links here, because the older host does not know "*" by itself."""
        kind = input_types.get("clip_model", features.MODEL_TYPES)
        if kind not in (*features.MODEL_TYPES.split(","), features.MODEL_TYPES, "*"):
            return f"clip_model: a CLIP was expected and {kind} is linked; connect Load CLIP Model (CVL)"
        kind = input_types.get("image", "IMAGE")
        return kind in ("IMAGE", "*") or f"image: IMAGE was expected and {kind} is linked; connect a picture"

    @classmethod
    def IS_CHANGED(
        cls,
        folder: str = "output",
        subfolder: str | None = "",
        index: str | None = "",
        recursive: bool | None = True,
        **_,
    ) -> str | float:
        return indexing.fingerprint(folder, subfolder, index, recursive)

    def build(
        self,
        clip_model: Looking,
        folder: str,
        subfolder: str,
        index: str,
        recursive: bool = True,
        batch: int = 32,
        image: Image | None = None,
        after: object = None,
        precision: str = EXACT,
        ground: str = WHITE,
        prompt: dict | None = None,
        extra_pnginfo: dict | None = None,
    ) -> dict:
        places = host.data_places()
        target = places.index_folder(index)
        if image is not None:
            texts = {"prompt": prompt, **(extra_pnginfo or {})} if host.saves_workflow() else {}
            _add(places, folder, subfolder, image, {key: json.dumps(text) for key, text in texts.items() if text})
        pictures = places.pictures_folder(folder, subfolder)
        found = indexing.scan_of(pictures, recursive, again=image is not None or after is not None)
        start = time.perf_counter()
        embed = indexing.Embedder(clip_model, batch, precision=precision, ground=ground)
        facts = indexing.facts_of(clip_model, embed.encoder, target, pictures, precision, ground)
        with writing(target, facts) as writer:
            done = update(
                writer,
                pictures,
                embed,
                recursive=recursive,
                left_out=places.without_pictures(),
                found=found,
                on_step=host.progress(1),
            )
        lines, data = indexing.report_of(done, time.perf_counter() - start, embed, found)
        data = {"index": index, "folder": folder, "subfolder": subfolder, **data}
        return shown(lines, data, (index, as_json(data)))


def _add(places: Places, folder: str, subfolder: str, image: Image, texts: dict[str, str]) -> None:
    """Save the pictures into the folder that is going to be indexed."""
    check_image(image)
    if folder != "output":
        raise ValueError("pictures can be added to the output folder only; choose folder output, or disconnect image")
    target = places.pictures_folder("output", subfolder, make=True)
    for picture in image[..., :3]:
        add_picture(target, picture, texts)


NODES = {
    "CVL_IndexFolder": (IndexFolder, "Index Folder (CVL)"),
}
