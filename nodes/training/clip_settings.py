"""The inputs of Train CLIP: what everybody sets, and what is there for those who look for it."""

from __future__ import annotations

from collections.abc import Mapping

from ...training.clip.objective import LOSSES
from ...training.clip.plan import LAYERS, PRECISIONS, TOWERS
from ...training.clip.presets import AUTO, PRESETS, SIZES
from ...training.clip.saving import WRITES
from ...training.clip.settings import TEMPLATE
from ...training.clip.work import BEST
from ...training.memory.recomputing import WAYS as WAYS_TO_RECOMPUTE
from .inputs import FOLDER, OPTIMISER, RESUME, SEED

OWN = "as the preset"  # in a menu: what the recipe says
YES, NO = "yes", "no"
_NAMES = {"learning_rate": "lr"}  # of an input, in a plan
_FROM_0 = ("steps", "learning_rate", "batch", "alpha", "crop")  # 0: as the preset
_FROM_BELOW_0 = ("rank", "average")  # below 0: as the preset
_MENUS = ("towers", "layers", "loss", "flip")
_AS_THEY_ARE = (
    *("seed", "template", "held_out", "at_once", "blocks", "optimiser", "precision"),
    *("writes", "filename_prefix", "checkpointing"),
)

REQUIRED = {
    "folder": FOLDER,
    "subfolder": (
        "STRING",
        {
            "default": "",
            "cvl_nothing": "",  # a node that is connected to nothing trains on no whole folder at each Run
            "tooltip": "The folder below it: cat.txt beside cat.png is its caption, or the pictures of each class lie "
            "in a folder of its name; tables (metadata.jsonl, .csv) and WebDataset's tar files are read, too.",
        },
    ),
    "preset": (
        [AUTO, *PRESETS],
        {
            "tooltip": "The recipe. FLYP: all weights, by the loss that CLIP learned by. CLIP-LoRA: few pictures of "
            "each class. LiT: the text encoder alone. auto: FLYP for a CLIP, from-scratch-small without one.",
        },
    ),
    "steps": (
        "INT",
        {"default": 0, "min": 0, "max": 1_000_000, "tooltip": "Steps of the optimiser; 0: as many as the preset says."},
    ),
    "batch": (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 65536,
            "tooltip": "Pictures that are told apart in a step: more are better, see at_once. 0: as the preset.",
        },
    ),
    "learning_rate": (
        "FLOAT",
        {
            "default": 0.0,
            "min": 0.0,
            "max": 1.0,
            "step": 1e-6,
            "round": False,
            "tooltip": "How big a step is; 0: as the preset; 1 for Prodigy, which finds it itself.",
        },
    ),
    "seed": SEED,
    "filename_prefix": (
        "STRING",
        {"default": "clip/trained", "tooltip": "Folder and beginning of the name in the output folder."},
    ),
}


def _rare(default: float, least: float, most: float, step: float | None = None) -> dict[str, object]:
    """A number that is rarely set."""
    found: dict[str, object] = {"default": default, "min": least, "max": most, "advanced": True}
    return found if step is None else {**found, "step": step, "round": False}


_SELDOM = {"advanced": True}  # of a menu

OPTIONAL = {
    "clip_model": (
        "CVL_CLIP_MODEL",
        {"tooltip": "The CLIP to begin with; it stays as it is, and a copy is trained. Without one, from scratch."},
    ),
    "template": (
        "STRING",
        {
            "default": TEMPLATE,
            "multiline": True,
            "tooltip": "The sentence for the name of a class, with {} in its place; of several lines one is drawn.",
        },
    ),
    "resume": RESUME,
    "writes": (
        list(WRITES),
        {"tooltip": "The file: a LoRA where one was trained, else both encoders; or the text encoder for prompts."},
    ),
    "held_out": (
        "FLOAT",
        {
            "default": 0.1,
            "min": 0.0,
            "max": 0.9,
            "step": 0.05,
            "tooltip": "Share of the pictures that only judge; near-duplicates stay on one side.",
        },
    ),
    "best": (
        "BOOLEAN",
        {
            "default": False,
            "tooltip": "Keep the best point of the way from before to after, by the pictures that judge.",
        },
    ),
    "at_once": (
        "INT",
        {
            **_rare(64, 1, 65536),
            "tooltip": "Pictures of a batch computed together: fewer need less memory for the same step.",
        },
    ),
    "size": ([AUTO, *SIZES], {**_SELDOM, "tooltip": "Of a CLIP from scratch. auto: what suits the pictures."}),
    "towers": ([OWN, *TOWERS], {**_SELDOM, "tooltip": "Which encoders learn; the other is locked."}),
    "blocks": (
        "STRING",
        {
            "default": "",
            "advanced": True,
            "tooltip": "Empty: all. 2: the last two of each encoder. Or names with *, commas between them.",
        },
    ),
    "rank": (
        "INT",
        {**_rare(-1, -1, 1024), "tooltip": "Of a LoRA; 0: the weights themselves learn; -1: as the preset."},
    ),
    "alpha": (
        "FLOAT",
        {**_rare(0.0, 0.0, 4096.0, 1.0), "tooltip": "A LoRA's scale is alpha / rank; 0: as the preset."},
    ),
    "layers": ([OWN, *LAYERS], {**_SELDOM, "tooltip": "Which layers get a LoRA."}),
    "loss": (
        [OWN, *LOSSES],
        {
            **_SELDOM,
            "tooltip": "contrastive: CLIP's own. sigmoid: SigLIP's. classes: each picture among the names of all.",
        },
    ),
    "average": (
        "FLOAT",
        {
            **_rare(-1.0, -1.0, 0.9999, 0.001),
            "tooltip": "Decay of a running mean of the weights, which is then the result; 0: off; -1: as the preset.",
        },
    ),
    "crop": (
        "FLOAT",
        {
            **_rare(0.0, 0.0, 1.0, 0.05),
            "tooltip": "Least share of a picture that is cut out; 1: none is; 0: as the preset.",
        },
    ),
    "flip": ([OWN, YES, NO], {**_SELDOM, "tooltip": "Half of the pictures are mirrored."}),
    "optimiser": OPTIMISER,
    "precision": (
        list(PRECISIONS),
        {**_SELDOM, "tooltip": "Of the products. bfloat16 is faster on most cards, and coarser."},
    ),
    "share": (
        "FLOAT",
        {
            **_rare(1.0, 0.0, 1.0, 0.05),
            "tooltip": "What is kept lies so far on the way from before (0) to after (1); of a LoRA, its strength.",
        },
    ),
    "checkpointing": (
        list(WAYS_TO_RECOMPUTE),
        {
            **_SELDOM,
            "tooltip": "Blocks are computed twice instead of kept: less memory, slower. auto: when memory runs out.",
        },
    ),
}


def given_of(inputs: Mapping[str, object]) -> dict[str, object]:
    """What the inputs of the node say, by the names of a plan; what is left to the preset is left out.

    Raises:
        ValueError: a size for a CLIP that is there already.
    """
    given = {name: inputs[name] for name in _AS_THEY_ARE}
    given |= {_NAMES.get(name, name): inputs[name] for name in _FROM_0 if inputs[name]}
    given |= {name: inputs[name] for name in _FROM_BELOW_0 if float(str(inputs[name])) >= 0}
    answers = {YES: True, NO: False}
    given |= {name: answers.get(str(inputs[name]), inputs[name]) for name in _MENUS if inputs[name] != OWN}
    given["share"] = BEST if inputs["best"] else inputs["share"]
    if inputs["preset"] != AUTO:
        given["preset"] = inputs["preset"]
    if inputs["clip_model"] is None:
        given["size"] = inputs["size"]
    elif inputs["size"] != AUTO:
        raise ValueError(
            f"the size is {inputs['size']!r}, and a CLIP to begin with is connected, which has its own: choose "
            f"{AUTO!r}, or disconnect it"
        )
    return given
