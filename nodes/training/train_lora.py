"""The node that trains a LoRA from a folder of pictures, for any MODEL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ...lora.weights.fusing import Change
from ...training.lora.data.given import Given, plan_of_given, prepare_given
from ...training.lora.levels import WAYS
from ...training.lora.plan_file import plan_text
from ...training.lora.saving import places_in_text, places_of
from ...training.lora.targets import TARGETS
from ...training.lora.work import Job, prepare, work
from ...training.memory.recomputing import WAYS as WAYS_TO_RECOMPUTE
from ...training.optimisers import OPTIMISERS
from ...training.record.log import TRAININGS, title_of
from ...vae_core.tiling.work import Tiling
from ..checks import check_numbers, check_samples, check_tensor
from ..conditioning.entries import check_conditioning
from ..host import host
from ..lora.convert import DIALECTS
from ..reports import as_json, shown
from ..text.encode import TextEncode
from . import settings
from .inputs import fingerprint
from .live import Live
from .plan_file import LORA, names_of_few_steps, plan_file_of, to_share
from .report import report_of

if TYPE_CHECKING:
    from ...lora.kinds.adapters import Adapter
    from ...lora.models.places import Place

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
    RETURN_TYPES = ("MODEL", "STRING", "STRING", "CLIP")
    RETURN_NAMES = ("model", "path", "report", "clip")
    OUTPUT_TOOLTIPS = (
        "The model with the new LoRA on it, at strength 1.",
        "Where the LoRA file was written.",
        "What was trained on what, the losses, and every picture that was not used, as JSON.",
        "The CLIP with what its text encoder has learned; as it came where it did not learn.",
    )
    FUNCTION = "train"
    INPUT_IS_LIST = True
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        hidden = {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"}
        return {"required": settings.REQUIRED, "optional": settings.OPTIONAL, "hidden": hidden}

    @classmethod
    def IS_CHANGED(cls, folder=("input",), subfolder=("",), latent=None, **_: object) -> str | float:
        if latent is not None:
            return ""
        return fingerprint(_one(folder), _one(subfolder))

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
        kind="LoRA",
        optimiser=OPTIMISERS[0],
        checkpointing=WAYS_TO_RECOMPUTE[0],
        latent=None,
        positive=None,
        text_encoder_rate=0.0,
        prompt=None,
        unique_id=None,
    ):
        return _trained(_values(locals()))


def _trained(given) -> dict:
    """Train with the inputs of the node, by name, and give its answer."""
    model, clip, vae = given["model"], given["clip"], given["vae"]
    job = _job(given, settings.plan_of(given), host.vae_facts(vae).px_per_cell)
    learning = clip if job.plan.text_encoder_rate else None
    if given["latent"] is None:
        prepared = prepare(job, lambda image: host.encode_image(vae, image, None, Tiling()).result, host.progress(1))
    else:
        if learning:
            raise ValueError(
                "a folder of pictures was expected where the text encoder learns, for it cannot learn from prompts "
                "that are encoded already: leave latent unconnected, or set text_encoder_rate to 0"
            )
        latents = _latents(given["latent"])
        samples, masks = [one["samples"] for one in latents], [one.get("noise_mask") for one in latents]
        prepared = prepare_given(Given(samples, masks, _prompts(given["positive"])))
        job = replace(job, plan=plan_of_given(job.plan))
    live = Live(
        str(given["unique_id"]),
        given["sample_prompt"].strip(),
        given["sample_cfg"],
        lambda latent: host.decode_latent(vae, latent, Tiling()).result,
        lambda picture: host.save_preview(picture, TRAININGS),
        on_step=host.progress(job.plan.steps),
        tell=lambda output: host.tell(str(given["unique_id"]), output),
    )
    done = work(
        job,
        prepared,
        lambda text: prepared.prompts.get(text) or TextEncode().encode(clip, text)["result"][0],
        lambda: host.trainee(model, learning),
        host.weights(model),
        lambda: host.output_path(given["filename_prefix"], ".safetensors"),
        live.step,
        live,
        text_shapes=host.weights(clip) if learning else None,
    )
    lines, data = report_of(done, job)
    changed = host.patched(model, _at_strength_1(places_of(done.made.adapters)))
    said = host.patched(clip, _at_strength_1(places_in_text(done.made.text_adapters))) if learning else clip
    results = (changed, str(done.path), as_json(data), said)
    if not done.made.validation:  # of several processes, one that is not the first
        return shown(lines, data, results)
    return shown(lines, data, results, list(live.samples.values()), chart=live.chart())


def _at_strength_1(adapters: Mapping[Place, Adapter]) -> dict[Place, list[Change]]:
    return {place: [Change(adapter, 1.0)] for place, adapter in adapters.items()}


def _latents(values) -> list[dict]:
    """The latents of a wire. Raises ValueError for anything else."""
    found = values if isinstance(values, list) else [values]
    for one in found:
        check_samples(one, "training")
        if (mask := one.get("noise_mask")) is not None:
            check_tensor(mask, "a MASK")
            check_numbers(mask, "a MASK")
    return found


def _prompts(values) -> list:
    """The conditionings of a wire, none where nothing is connected. Raises ValueError for anything else."""
    found = [] if values is None else values
    if not isinstance(found, list):
        raise ValueError(
            f"a list of CONDITIONING was expected, and this is {type(found).__name__}: connect Text Encode"
        )
    return [check_conditioning(one, "training") for one in found]


def _job(given, plan, px_per_cell) -> Job:
    """What is to be done. Raises ValueError or FileNotFoundError for a folder that is not there."""
    places = host.data_places()
    is_folder = given["latent"] is None
    pictures = places.pictures_folder(given["folder"], given["subfolder"]) if is_folder else None
    title = title_of(given["filename_prefix"], "lora")
    file = plan_file_of(given, pictures, given["prompt"], given["unique_id"], LORA)
    return Job(
        folder=pictures,
        state=places.output / TRAININGS / title,
        resolution_px=given["resolution"],
        step_px=_STEP_CELLS * (px_per_cell or 8),
        plan=plan,
        title=title,
        dialect=given["dialect"],
        resume=given["resume"],
        every=max(1, plan.steps // 10),
        text=plan_text(file),
        notes=[
            f"⚠ the name {name} says that it was made for few steps: training undoes that; train its base"
            for name in names_of_few_steps(file)
        ],
        told={"cvl.plan_file": plan_text(to_share(file))} if host.saves_workflow() else {},
    )


def _values(given) -> dict:
    """The inputs by name; ComfyUI gives each as a list, so that latents and prompts may come as lists.

    Raises:
        ValueError: several values for an input that takes one.
    """
    for name, value in given.items():
        if name not in settings.LISTS and isinstance(value, list) and len(value) != 1:
            raise ValueError(f"{len(value)} values came into {name}, which takes one: run a node for each of them")
    return {name: value if name in settings.LISTS else _one(value) for name, value in given.items()}


def _one(value):
    """The value of an input, which may come as a list of one."""
    return value[0] if isinstance(value, (list, tuple)) and value else value


NODES = {"CVL_TrainLoRA": (TrainLoRA, "Train LoRA (CVL)")}
