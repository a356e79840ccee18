"""Stand-ins for stock nodes, for runs without ComfyUI: the same names, inputs and outputs.

Written from the behaviour of ComfyUI 0.3.64 (nodes.py, comfy_extras/nodes_images.py, nodes_mask.py,
nodes_primitive.py, nodes_preview_any.py); here a mask of a picture without alpha has the picture's size, there it is
64 x 64.
"""

from __future__ import annotations

import json
import sys
from typing import cast

from torch import Tensor

from ...files.images import read_image, write_next_png
from .folders import Folders
from .graph import NodeClass
from .stock_pictures import PICTURE_NODES
from .stock_sampling import SAMPLING_NODES


class LoadImage:
    folders: Folders
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": (cls.folders.names(), {"image_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image):
        if image is None or cls.folders.find(str(image)) is not None:
            return True
        places = ", ".join(str(place) for place in cls.folders.inputs)
        return f"there is no picture {image!r} in {places}; put it there, or give its folder with --input"

    def run(self, image):
        path = self.folders.find(image)
        if path is None:
            raise ValueError(f"the picture {image!r} is gone; put it back")
        return read_image(path)


class SaveImage:
    folders: Folders
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    kind = "output"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def run(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
            raise ValueError(f"pictures [N, H, W, 3] were expected, and this is {_what(images)}")
        folder = self.folders.temp if self.kind == "temp" else self.folders.saving
        texts = {} if prompt is None else {"prompt": json.dumps(prompt)}
        texts |= {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}
        entries = []
        for number, image in enumerate(images):
            prefix = filename_prefix.replace("%batch_num%", str(number))
            path = write_next_png(folder, prefix, image[..., :3], texts)
            subfolder = path.parent.relative_to(folder.absolute()).as_posix()
            entries.append(
                {"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": self.kind}
            )
        return {"ui": {"images": entries}}


class PreviewImage(SaveImage):
    kind = "temp"
    FUNCTION = "preview"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}, "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    def preview(self, images, prompt=None, extra_pnginfo=None):
        return self.run(images, "ComfyUI_temp", prompt, extra_pnginfo)


class PreviewAny:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"source": ("*", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, source=None):
        text = source if isinstance(source, str) else _as_text(source)
        return {"ui": {"text": (text,)}, "result": (text,)}


def _primitive(name: str, kind: str, options: dict) -> type:
    """A node that gives on the value of its one widget."""
    members = {
        "RETURN_TYPES": (kind,),
        "FUNCTION": "run",
        "run": lambda self, value: (value,),
        "INPUT_TYPES": classmethod(lambda cls: {"required": {"value": (kind, options)}}),
    }
    return type(name, (), members)


_RANGE = {"min": -sys.maxsize, "max": sys.maxsize}
_CLASSES = [
    LoadImage,
    SaveImage,
    PreviewImage,
    PreviewAny,
    *PICTURE_NODES,
    *SAMPLING_NODES,
    _primitive("PrimitiveString", "STRING", {}),
    _primitive("PrimitiveStringMultiline", "STRING", {"multiline": True}),
    _primitive("PrimitiveInt", "INT", {**_RANGE, "control_after_generate": True}),
    _primitive("PrimitiveFloat", "FLOAT", _RANGE),
    _primitive("PrimitiveBoolean", "BOOLEAN", {}),
]


def stock_nodes(folders: Folders) -> dict[str, NodeClass]:
    """Class name -> class, bound to these folders."""
    bound = {found.__name__: type(found.__name__, (found,), {"folders": folders}) for found in _CLASSES}
    return cast(dict[str, NodeClass], bound)


def _what(value: object) -> str:
    return f"{type(value).__name__} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _as_text(value: object) -> str:
    if value is None or isinstance(value, (int, float, bool)):
        return str(value)
    try:
        return json.dumps(value, indent=4, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)
