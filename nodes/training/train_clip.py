"""The node that trains a CLIP from pictures with captions or classes."""

from __future__ import annotations

from ...training.clip.plan import PRECISIONS
from ...training.clip.presets import AUTO
from ...training.clip.saving import WRITES
from ...training.clip.settings import TEMPLATE
from ...training.memory.recomputing import WAYS as WAYS_TO_RECOMPUTE
from ...training.optimisers import OPTIMISERS
from ..host import host
from ..reports import as_json, shown
from .clip_settings import OPTIONAL, OWN, REQUIRED, given_of
from .clip_training import CLIP_MODEL, Asked, Watching, train, trained_model
from .inputs import fingerprint
from .live import LiveCLIP
from .plan_file import behind


class TrainCLIP:
    CATEGORY = "CVL/CLIP"
    DESCRIPTION = (
        "Trains a CLIP from your pictures and their captions or classes, from scratch or from any CLIP, and gives it: "
        "your own subjects and words for search, tags and judging, or a text encoder for prompts. Batches may be "
        "larger than memory, held-out pictures judge, and a training that was cancelled goes on where it stopped."
    )
    SEARCH_ALIASES = [
        "train clip",
        "clip trainer",
        "fine-tune clip",
        "finetune clip",
        "contrastive",
        "FLYP",
        "CLIP-LoRA",
        "LiT",
        "SigLIP",
        "text encoder training",
        "WiSE-FT",
    ]
    RETURN_TYPES = ("CVL_CLIP_MODEL", "STRING", "STRING")
    RETURN_NAMES = ("clip_model", "path", "report")
    OUTPUT_TOOLTIPS = (
        "The CLIP with what it has learned, as its file holds it; with a LoRA, the CLIP with the LoRA on it.",
        "Where the file was written.",
        "What was trained on what, held-out pictures before and after, the way between, how far the text encoder "
        "moved, and every picture not used, as JSON.",
    )
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        hidden = {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"}
        return {"required": REQUIRED, "optional": OPTIONAL, "hidden": hidden}

    @classmethod
    def IS_CHANGED(cls, folder="input", subfolder="", **_: object) -> str | float:
        return fingerprint(folder, subfolder)

    def train(
        self,
        folder,
        subfolder,
        preset,
        steps,
        batch,
        learning_rate,
        seed,
        filename_prefix,
        clip_model=None,
        template=TEMPLATE,
        resume=False,
        writes=WRITES[0],
        held_out=0.1,
        best=False,
        at_once=64,
        size=AUTO,
        towers=OWN,
        blocks="",
        rank=-1,
        alpha=0.0,
        layers=OWN,
        loss=OWN,
        average=-1.0,
        crop=0.0,
        flip=OWN,
        optimiser=OPTIMISERS[0],
        precision=PRECISIONS[0],
        share=1.0,
        checkpointing=WAYS_TO_RECOMPUTE[0],
        prompt=None,
        unique_id=None,
    ):
        return _trained(locals())


def _trained(given) -> dict:
    """Train with the inputs of the node, by name, and give its answer."""
    places, node, model = host.data_places(), str(given["unique_id"]), given["clip_model"]
    models, graph = behind((CLIP_MODEL,), given["prompt"], given["unique_id"])
    asked = Asked(
        given_of(given),
        places.pictures_folder(given["folder"], given["subfolder"]),
        model,
        "the CLIP that is connected",
        models,
        graph,
    )
    live = LiveCLIP(
        node,
        on_step=host.progress(max(1, given["steps"])),
        tell=lambda output: host.tell(node, output),
    )
    trained = train(
        asked,
        places.output,
        lambda prefix: host.output_path(prefix, ".safetensors"),
        Watching(host.progress(1), live.step, live.look),
        resume=given["resume"],
    )
    live.sweep = trained.done.sweep
    results = (trained_model(trained, model), str(trained.done.path), as_json(trained.data))
    return shown(trained.lines, trained.data, results, chart=live.chart())


NODES = {"CVL_TrainCLIP": (TrainCLIP, "Train CLIP (CVL)")}
