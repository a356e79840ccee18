"""The node that loads the small diffusion model."""

from __future__ import annotations

from ...diffusion.checkpoint import config_of, prefix_of
from ...diffusion.config import DiffusionError
from ...files.errors import FileFormatError
from ...files.tensors import open_tensors
from .. import catalog
from ..dtypes import DTYPES
from ..host import host
from ..reports import as_json, shown

CELL_PX = 4  # of the bundled VAE; an empty latent counts 8 pixels a cell


class LoadDiffusionModel:
    CATEGORY = "CVL/Diffusion"
    DESCRIPTION = (
        "Loads a small diffusion model of this pack's own kind, such as the bundled one, which draws shapes of 64 px. "
        "Samplers, LoRA loaders and Save Model take its MODEL. Use the bundled CLIP and VAE with it."
    )
    SEARCH_ALIASES = [
        "UNETLoader",
        "Load Diffusion Model",
        "diffusion model",
        "unet",
        "checkpoint",
        "tiny diffusion",
        "bundled model",
    ]
    RETURN_TYPES = ("MODEL", "STRING")
    RETURN_NAMES = ("model", "report")
    OUTPUT_TOOLTIPS = (
        "The diffusion model, for any sampler.",
        "What was read, as JSON: sizes, latent channels, width of the text it reads, shift of the noise levels.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": (
                    catalog.choices("diffusion"),
                    {"tooltip": "A diffusion model that this pack made. bundled: a toy that draws coloured shapes."},
                ),
            },
            "optional": {
                "dtype": (
                    DTYPES,
                    {"advanced": True, "tooltip": "What the model computes in. auto: as ComfyUI, or fp32 alone."},
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("diffusion", file)

    def load(self, file, dtype="auto"):
        path = catalog.path("diffusion", file)
        with open_tensors(path) as opened:
            try:
                prefix = prefix_of(opened.shapes)
                names = {name.removeprefix(prefix): name for name in opened.shapes if name.startswith(prefix)}
                config = config_of({short: opened.shapes[name] for short, name in names.items()})
            except DiffusionError as error:
                raise FileFormatError(path, str(error)) from error
            tensors = opened.read(names.values())
        model = host.make_model(config, {short: tensors[name] for short, name in names.items()}, dtype)
        numbers = sum(tensor.numel() for tensor in tensors.values())
        shift = float(tensors[names["noise_shift"]])
        lines = [
            f"{path.name}: diffusion model of {numbers / 1e6:.1f} million parameters, {config.latent} latent channels",
            f"its VAE has {CELL_PX} pixels a cell, an empty latent counts 8: ask for 128 x 128 to get 64 x 64",
        ]
        data = {
            "file": path.name,
            "parameters": numbers,
            "latent_channels": config.latent,
            "text_width": config.text,
            "widths": list(config.widths),
            "noise_shift": shift,
            "sides_in_cells": config.factor,
        }
        return shown(lines, data, (model, as_json(data)))


NODES = {"CVL_LoadDiffusionModel": (LoadDiffusionModel, "Load Diffusion Model (CVL)")}
