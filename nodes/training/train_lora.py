"""The node that trains a LoRA from a folder of pictures, for any MODEL."""

from __future__ import annotations

from ...lora.weights.fusing import Change
from ...training.lora.levels import WAYS
from ...training.lora.plan_file import plan_text
from ...training.lora.saving import places_of
from ...training.lora.targets import TARGETS
from ...training.lora.work import Job, prepare, work
from ...vae_core.tiling.work import Tiling
from ..host import host
from ..lora.convert import DIALECTS
from ..reports import as_json, shown
from ..search import indexing
from ..text.encode import TextEncode
from . import settings
from .live import Live
from .plan_file import plan_file_of, to_share
from .report import report_of

_TRAININGS = "cvl_training"  # below the output folder: states and logs
_STEP_CELLS = 8  # a size's step, in cells of the latent


class TrainLoRA:
    CATEGORY = "CVL/LoRA"
    DESCRIPTION = (
        "Trains a LoRA for the connected MODEL from a folder of pictures with captions (cat.png and cat.txt), and "
        "gives the model with it. The loss is the model's own, pictures keep their shape, captions never mix, and a "
        "training that was cancelled goes on where it stopped."
    )
    SEARCH_ALIASES = [
        "train lora",
        "lora trainer",
        "TrainLoraNode",
        "fine-tune",
        "finetune",
        "dreambooth",
        "kohya",
        "make lora",
        "learn style",
    ]
    RETURN_TYPES = ("MODEL", "STRING", "STRING")
    RETURN_NAMES = ("model", "path", "report")
    OUTPUT_TOOLTIPS = (
        "The model with the new LoRA on it, at strength 1.",
        "Where the LoRA file was written.",
        "What was trained on what, the losses, and every picture that was not used, as JSON.",
    )
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        hidden = {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"}
        return {"required": settings.REQUIRED, "optional": settings.OPTIONAL, "hidden": hidden}

    @classmethod
    def IS_CHANGED(cls, folder: str = "input", subfolder: str | None = "", **_: object) -> str | float:
        return indexing.fingerprint(folder, subfolder, None, True)

    def train(
        self,
        model,
        clip,
        vae,
        folder,
        subfolder,
        steps,
        rank,
        learning_rate,
        resolution,
        trigger,
        seed,
        filename_prefix,
        batch=1,
        resume=False,
        alpha=0.0,
        accumulate=1,
        targets=TARGETS[0],
        blocks="",
        min_snr=0.0,
        levels=WAYS[0],
        shuffle_tags=False,
        keep_tags=0,
        drop_caption=0.05,
        keep_base=0.0,
        class_word="",
        dropout=0.0,
        average=0.0,
        held_out=0.1,
        dialect=DIALECTS[0],
        sample_prompt="",
        sample_cfg=4.0,
        prompt=None,
        unique_id=None,
    ):
        return _trained(dict(locals()))


def _trained(given) -> dict:
    """Train with the inputs of the node, by name, and give its answer."""
    model, clip, vae = given["model"], given["clip"], given["vae"]
    plan = settings.plan_of(given)
    job = _job(given, plan, host.vae_facts(vae).px_per_cell)
    prepared = prepare(job, lambda image: host.encode_image(vae, image, None, Tiling()).result, host.progress(1))
    live = Live(
        str(given["unique_id"]),
        job.title,
        given["sample_prompt"].strip(),
        given["sample_cfg"],
        lambda latent: host.decode_latent(vae, latent, Tiling()).result,
        host.progress(plan.steps),
    )
    done = work(
        job,
        prepared,
        lambda text: TextEncode().encode(clip, text)["result"][0],
        lambda: host.trainee(model),
        host.weights(model),
        lambda: host.output_path(given["filename_prefix"], ".safetensors"),
        live.step,
        live,
    )
    changes = {place: [Change(lora, 1.0)] for place, lora in places_of(done.made.adapters).items()}
    lines, data = report_of(done, plan)
    results = (host.patched(model, changes), str(done.path), as_json(data))
    return shown(lines, data, results, host.save_preview(live.picture(), "cvl_training"))


def _job(given, plan, px_per_cell) -> Job:
    """What is to be done. Raises ValueError or FileNotFoundError for a folder that is not there."""
    places = host.data_places()
    pictures = places.pictures_folder(given["folder"], given["subfolder"])
    title = given["filename_prefix"].replace("\\", "/").rpartition("/")[2] or "lora"
    file = plan_file_of(given, pictures, given["prompt"], given["unique_id"])
    return Job(
        folder=pictures,
        state=places.output / _TRAININGS / title,
        resolution_px=given["resolution"],
        step_px=_STEP_CELLS * (px_per_cell or 8),
        plan=plan,
        title=title,
        dialect=given["dialect"],
        resume=given["resume"],
        every=max(1, plan.steps // 10),
        text=plan_text(file),
        told={"cvl.plan_file": plan_text(to_share(file))} if host.saves_workflow() else {},
    )


NODES = {"CVL_TrainLoRA": (TrainLoRA, "Train LoRA (CVL)")}
