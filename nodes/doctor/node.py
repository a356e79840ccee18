"""The Doctor: what is connected, what each is, and what will not fit what, before a sampler says it in matrix sizes."""

from __future__ import annotations

from ...doctor.fits import judge
from .. import catalog
from ..reports import as_json, shown
from .files import facts_of_file
from .report import data_of, lines_of
from .wires import facts

_INPUTS = {  # input -> the type of its wire, what a report calls it, what is said about it on the canvas
    "model": ("MODEL", "MODEL", "A diffusion model of any family."),
    "clip": ("CLIP", "CLIP", "A text encoder, to see whether the model reads its text."),
    "vae": ("VAE", "VAE", "A VAE, to see whether its latents are those of the model."),
    "latent": ("LATENT", "LATENT", "A latent, empty or filled, of a picture, a video or a sound."),
    "positive": ("CONDITIONING", "positive", "An encoded prompt, whoever encoded it."),
    "negative": ("CONDITIONING", "negative", "Another encoded prompt."),
    "image": ("IMAGE", "IMAGE", "Pictures that are to be encoded, or that were decoded."),
    "mask": ("MASK", "MASK", "A mask that goes with the picture or the latent."),
    "anything": ("*", "anything", "A thing of any type: it is said what it is, and judged as such."),
}

NO_FILE = "none"
_FILES = {  # input -> the use of the menu, what is said about it on the canvas
    "lora_file": ("lora", "A LoRA by its file, to see whether it is made for the model. Nothing of it is applied."),
    "model_file": (
        "weights",
        "A file of weights by its name: a checkpoint, a diffusion model, text encoders or a VAE. Its header is read, "
        "and nothing is loaded.",
    ),
}


class AnyType(str):
    """The type of a wire that takes every other one: 0.3.64 compares types with `!=`, 0.33.0 knows the star."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


class Doctor:
    CATEGORY = "CVL/doctor"
    DESCRIPTION = (
        "Says what is connected to it, or is in a file: family, size, type, device and patches of models, text "
        "encoders and VAEs, what is in latents and prompts; and names what does not go together before a sampler stops "
        "at it. Everything is optional, nothing is changed. Right-click any node and choose Doctor to connect all its "
        "outputs at once."
    )
    SEARCH_ALIASES = [
        "doctor",
        "diagnose",
        "debug",
        "inspect",
        "mat1 and mat2",
        "shapes cannot be multiplied",
        "size mismatch",
        "model info",
        "vae info",
        "clip info",
        "compatibility",
        "what is this",
    ]
    RETURN_TYPES = ("STRING", "BOOLEAN")
    RETURN_NAMES = ("report", "fits")
    OUTPUT_TOOLTIPS = (
        "Everything found, as JSON: the things, the misfits, the notes, and the pairs that were looked at.",
        "False where something does not fit or is damaged.",
    )
    FUNCTION = "examine"
    OUTPUT_NODE = True  # queued alone it runs, and shows its report

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {},
            "optional": {
                name: (AnyType(kind) if kind == "*" else kind, {"tooltip": said})
                for name, (kind, _, said) in _INPUTS.items()
            }
            | {
                name: (
                    [NO_FILE, *catalog.own_choices(use)],
                    {"default": NO_FILE, "cvl_nothing": NO_FILE, "tooltip": said},
                )
                for name, (use, said) in _FILES.items()
            },
        }

    @classmethod
    def IS_CHANGED(cls, lora_file: str = NO_FILE, model_file: str = NO_FILE, **_: object) -> str:
        chosen = zip(_FILES.values(), (lora_file, model_file), strict=True)
        return " ".join(catalog.fingerprint(use, choice) for (use, _), choice in chosen if choice != NO_FILE)

    def examine(
        self,
        model: object | None = None,
        clip: object | None = None,
        vae: object | None = None,
        latent: object | None = None,
        positive: object | None = None,
        negative: object | None = None,
        image: object | None = None,
        mask: object | None = None,
        anything: object | None = None,
        lora_file: str = NO_FILE,
        model_file: str = NO_FILE,
    ) -> dict:
        values = (model, clip, vae, latent, positive, negative, image, mask, anything)
        things = [
            facts(kind, name, value)
            for (kind, name, _), value in zip(_INPUTS.values(), values, strict=True)
            if value is not None
        ]
        for (use, _), choice in zip(_FILES.values(), (lora_file, model_file), strict=True):
            if choice != NO_FILE:
                things += facts_of_file(catalog.path(use, choice), choice)
        if not things:
            line = "nothing is connected: connect what you want to know about, or right-click a node and choose Doctor"
            data = {"fits": True, "things": [], "misfits": [], "notes": [line], "checked": [], "unknown": []}
            return shown([line], data, (as_json(data), True))
        found = judge(things)
        data = data_of(things, found)
        return shown(lines_of(things, found), data, (as_json(data), data["fits"]))


NODES = {"CVL_Doctor": (Doctor, "Doctor (CVL)")}
