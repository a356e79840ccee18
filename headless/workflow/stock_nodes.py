"""Stand-ins for the stock nodes that need no model, for runs without ComfyUI: the same names, inputs and outputs.

Written from the behaviour of ComfyUI 0.3.64 (nodes.py, comfy_extras/nodes_images.py, nodes_mask.py,
nodes_primitive.py, nodes_preview_any.py); here a mask of a picture without alpha has the picture's size, there it is
64 x 64.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor

from ...files.images import next_path, read_image, write_png
from .folders import Folders
from .scaling import METHODS, scaled

_SIDE = {"default": 512, "min": 1, "max": 16384}


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
        return read_image(self.folders.find(image))


class SaveImage:
    folders: Folders
    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    kind = "output"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
                "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    def run(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
            raise ValueError(f"pictures [N, H, W, 3] were expected, and this is {_what(images)}")
        folder = self.folders.temp if self.kind == "temp" else self.folders.output
        texts = {} if prompt is None else {"prompt": json.dumps(prompt)}
        texts |= {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}
        entries = []
        for number, image in enumerate(images):
            prefix = filename_prefix.replace("%batch_num%", str(number))
            path = next_path(folder, prefix, ".png", width_px=image.shape[1], height_px=image.shape[0])
            write_png(path, image[..., :3], texts)
            subfolder = path.parent.relative_to(folder.absolute()).as_posix()
            entries.append({"filename": path.name, "subfolder": "" if subfolder == "." else subfolder,
                            "type": self.kind})
        return {"ui": {"images": entries}}


class PreviewImage(SaveImage):
    kind = "temp"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}, "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    def run(self, images, prompt=None, extra_pnginfo=None):
        return super().run(images, "ComfyUI_temp", prompt, extra_pnginfo)


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


class ImageScale:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        side = {**_SIDE, "min": 0}
        return {"required": {"image": ("IMAGE",), "upscale_method": (list(METHODS),), "width": ("INT", side),
                             "height": ("INT", side), "crop": (["disabled", "center"],)}}

    def run(self, image, upscale_method, width, height, crop):
        return (scaled(image, upscale_method, width, height, centre=crop == "center"),)


class ImageScaleBy:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "upscale_method": (list(METHODS),),
                             "scale_by": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0})}}

    def run(self, image, upscale_method, scale_by):
        width, height = round(image.shape[2] * scale_by), round(image.shape[1] * scale_by)
        return (scaled(image, upscale_method, width, height, centre=False),)


class ImageInvert:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image):
        return (1.0 - image,)


class ImageBatch:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image1": ("IMAGE",), "image2": ("IMAGE",)}}

    def run(self, image1, image2):
        if image1.shape[1:] != image2.shape[1:]:
            image2 = scaled(image2, "bilinear", image1.shape[2], image1.shape[1], centre=True)
        return (torch.cat((image1, image2)),)


class EmptyImage:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", _SIDE), "height": ("INT", _SIDE),
                             "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                             "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF})}}

    def run(self, width, height, batch_size=1, color=0):
        colour = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255]) / 255
        return (colour.expand(batch_size, height, width, 3).clone(),)


class ImageFromBatch:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "batch_index": ("INT", {"default": 0, "min": 0, "max": 4095}),
                             "length": ("INT", {"default": 1, "min": 1, "max": 4096})}}

    def run(self, image, batch_index, length):
        first = min(len(image) - 1, batch_index)
        return (image[first:first + length].clone(),)


class RepeatImageBatch:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "amount": ("INT", {"default": 1, "min": 1, "max": 4096})}}

    def run(self, image, amount):
        return (image.repeat(amount, 1, 1, 1),)


class SolidMask:
    RETURN_TYPES = ("MASK",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
                             "width": ("INT", _SIDE), "height": ("INT", _SIDE)}}

    def run(self, value, width, height):
        return (torch.full((1, height, width), float(value)),)


class ImageToMask:
    RETURN_TYPES = ("MASK",)
    FUNCTION = "run"
    CHANNELS = ("red", "green", "blue", "alpha")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "channel": (list(cls.CHANNELS),)}}

    def run(self, image, channel):
        place = self.CHANNELS.index(channel)
        if place >= image.shape[-1]:
            raise ValueError(f"this picture has no {channel} channel, it has {image.shape[-1]}; choose another")
        return (image[..., place],)


class InvertMask:
    RETURN_TYPES = ("MASK",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"mask": ("MASK",)}}

    def run(self, mask):
        return (1.0 - mask,)


class ThresholdMask:
    RETURN_TYPES = ("MASK",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"mask": ("MASK",),
                             "value": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01})}}

    def run(self, mask, value):
        return ((mask > value).float(),)


def _primitive(name: str, kind: str, options: dict) -> type:
    """A node that gives on the value of its one widget."""
    members = {"RETURN_TYPES": (kind,), "FUNCTION": "run", "run": lambda self, value: (value,),
               "INPUT_TYPES": classmethod(lambda cls: {"required": {"value": (kind, options)}})}
    return type(name, (), members)


_RANGE = {"min": -sys.maxsize, "max": sys.maxsize}
_CLASSES = [LoadImage, SaveImage, PreviewImage, PreviewAny, ImageScale, ImageScaleBy, ImageInvert, ImageBatch,
            EmptyImage, ImageFromBatch, RepeatImageBatch, SolidMask, ImageToMask, InvertMask,
            ThresholdMask,
            _primitive("PrimitiveString", "STRING", {}),
            _primitive("PrimitiveStringMultiline", "STRING", {"multiline": True}),
            _primitive("PrimitiveInt", "INT", {**_RANGE, "control_after_generate": True}),
            _primitive("PrimitiveFloat", "FLOAT", _RANGE),
            _primitive("PrimitiveBoolean", "BOOLEAN", {})]


def stock_nodes(folders: Folders) -> dict[str, type]:
    """Class name -> class, bound to these folders."""
    return {found.__name__: type(found.__name__, (found,), {"folders": folders}) for found in _CLASSES}


def _what(value: object) -> str:
    return f"{type(value).__name__} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _as_text(value: object) -> str:
    if value is None or isinstance(value, (int, float, bool)):
        return str(value)
    try:
        return json.dumps(value, indent=4, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)
