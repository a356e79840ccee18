"""Stand-ins for the stock nodes that make and change pictures and masks, as `stock_nodes` says."""

from __future__ import annotations

import torch

from .scaling import METHODS, scaled

_SIDE = {"default": 512, "min": 1, "max": 16384}


class ImageScale:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        side = {**_SIDE, "min": 0}
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (list(METHODS),),
                "width": ("INT", side),
                "height": ("INT", side),
                "crop": (["disabled", "center"],),
            }
        }

    def run(self, image, upscale_method, width, height, crop):
        return (scaled(image, upscale_method, width, height, centre=crop == "center"),)


class ImageScaleBy:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (list(METHODS),),
                "scale_by": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0}),
            }
        }

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
        return {
            "required": {
                "width": ("INT", _SIDE),
                "height": ("INT", _SIDE),
                "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF}),
            }
        }

    def run(self, width, height, batch_size=1, color=0):
        colour = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255]) / 255
        return (colour.expand(batch_size, height, width, 3).clone(),)


class ImageFromBatch:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "batch_index": ("INT", {"default": 0, "min": 0, "max": 4095}),
                "length": ("INT", {"default": 1, "min": 1, "max": 4096}),
            }
        }

    def run(self, image, batch_index, length):
        first = min(len(image) - 1, batch_index)
        return (image[first : first + length].clone(),)


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
        return {
            "required": {
                "value": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
                "width": ("INT", _SIDE),
                "height": ("INT", _SIDE),
            }
        }

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
        return {
            "required": {"mask": ("MASK",), "value": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01})}
        }

    def run(self, mask, value):
        return ((mask > value).float(),)


PICTURE_NODES = [
    ImageScale,
    ImageScaleBy,
    ImageInvert,
    ImageBatch,
    EmptyImage,
    ImageFromBatch,
    RepeatImageBatch,
    SolidMask,
    ImageToMask,
    InvertMask,
    ThresholdMask,
]
