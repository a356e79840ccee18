"""Our own small diffusion model: load it, and say what was read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..diffusion.checkpoint import config_of, prefix_of
from ..diffusion.config import DiffusionConfig, DiffusionError
from ..files.errors import FileFormatError
from ..files.tensors import open_tensors
from . import catalog
from .dtypes import DTYPES
from .host import host
from .reports import as_json, shown

if TYPE_CHECKING:
    from .host.interface import Tensor


def read_model(path: Path) -> tuple[DiffusionConfig, dict[str, Tensor], list[str]]:
    """Read the sizes and the weights of a diffusion model of this pack, and the names of what else the file holds.

    Raises:
        FileFormatError: there is none in the file, or it is not whole.
    """
    with open_tensors(path) as file:
        try:
            prefix = prefix_of(file.shapes)
            names = [name for name in file.shapes if name.startswith(prefix)]
            config = config_of({name[len(prefix) :]: file.shapes[name] for name in names})
        except DiffusionError as error:
            raise FileFormatError(path, str(error)) from error
        state = {name[len(prefix) :]: tensor for name, tensor in file.read(names).items()}
        return config, state, [name for name in file.shapes if not name.startswith(prefix)]


class LoadDiffusionModel:
    CATEGORY = "CVL/model"
    DESCRIPTION = (
        "Loads the small diffusion model that comes with this pack, or one that was trained by its recipe, as a MODEL "
        "for KSampler, LoRA loaders and ModelSave. It draws ten shapes in nine colours, 64 pixels wide, in a second on "
        "a processor: to try things on before a checkpoint of some GB."
    )
    SEARCH_ALIASES = [
        "UNETLoader",
        "load diffusion model",
        "CheckpointLoaderSimple",
        "small model",
        "tiny diffusion",
        "toy model",
        "load model",
    ]
    RETURN_TYPES = ("MODEL", "STRING")
    RETURN_NAMES = ("model", "report")
    OUTPUT_TOOLTIPS = (
        "The diffusion model, for KSampler and any node that takes a MODEL.",
        "What was read, as JSON: sizes, numbers, latent channels, shift of the noise levels.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "file": (
                    catalog.choices("diffusion"),
                    {
                        "tooltip": "A diffusion model of this pack. bundled/ is the one that comes with it. Stable "
                        "Diffusion, Flux and others are loaded by ComfyUI's own nodes."
                    },
                ),
            },
            "optional": {
                "dtype": (
                    DTYPES,
                    {
                        "advanced": True,
                        "tooltip": "How the weights are kept. auto: as ComfyUI chooses, fp32 without ComfyUI.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, file, **_):
        return catalog.fingerprint("diffusion", file)

    def load(self, file, dtype="auto"):
        path = catalog.path("diffusion", file)
        config, state, ignored = read_model(path)
        try:
            model = host.make_model(config, state, dtype)
        except RuntimeError as error:  # torch's, of tensors that are missing or have other shapes
            raise FileFormatError(path, "the diffusion model is not whole: get the file again") from error
        numbers = sum(tensor.numel() for tensor in state.values())
        lines = [
            f"small diffusion model, {numbers:,} numbers",
            f"{config.latent} latent channels, prompts {config.text} wide",
            "for 64 px pictures: an empty latent of 128",
        ]
        data = {
            "file": path.name,
            "numbers": numbers,
            "latent_channels": config.latent,
            "text_width": config.text,
            "widths": list(config.widths),
            "noise_shift": round(float(state["noise_shift"]), 4),
            "dtype": dtype,
            "ignored": ignored,
        }
        if ignored:
            lines.append(f"{len(ignored)} other tensors in the file were not read")
        return shown(lines, data, (model, as_json(data)))


NODES = {"CVL_LoadDiffusionModel": (LoadDiffusionModel, "Load Diffusion Model (CVL)")}
