"""The node that trains a LoRA from a folder of pictures, for any MODEL."""

from __future__ import annotations

from statistics import fmean

from ...lora.weights.fusing import Change
from ...training.lora.captions import CaptionPlan
from ...training.lora.levels import WAYS
from ...training.lora.objective import Weighting
from ...training.lora.plan import LoRAPlan
from ...training.lora.saving import places_of
from ...training.lora.targets import TARGETS
from ...training.lora.work import Done, Job, prepare, work
from ...vae_core.tiling.work import Tiling
from ..host import host
from ..lora.convert import DIALECTS
from ..reports import as_json, shown
from ..search import indexing
from ..text.encode import TextEncode

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
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "What learns. LoRAs on it count as part of it."}),
                "clip": ("CLIP", {"tooltip": "Encodes the captions."}),
                "vae": ("VAE", {"tooltip": "Encodes the pictures."}),
                "folder": (["input", "output"], {"tooltip": "ComfyUI's input or output folder."}),
                "subfolder": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "The folder below it with your pictures. cat.txt or cat.caption beside cat.png is "
                        "its caption; a folder called 10_cat counts ten times.",
                    },
                ),
                "steps": ("INT", {"default": 500, "min": 1, "max": 1_000_000, "tooltip": "Steps of the optimiser."}),
                "rank": (
                    "INT",
                    {"default": 16, "min": 1, "max": 1024, "tooltip": "How much it can hold, and its size."},
                ),
                "learning_rate": (
                    "FLOAT",
                    {"default": 2e-4, "min": 1e-7, "max": 1.0, "step": 1e-5, "round": False, "tooltip": "AdamW's."},
                ),
                "resolution": (
                    "INT",
                    {
                        "default": 512,
                        "min": 64,
                        "max": 4096,
                        "step": 8,
                        "tooltip": "Pictures get about this area, in their own shape. 512 for SD 1, 1024 for SDXL.",
                    },
                ),
                "trigger": (
                    "STRING",
                    {"default": "", "tooltip": "A word that calls it; put in front of the captions."},
                ),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1, "tooltip": "The same seed, the same file."}),
                "filename_prefix": (
                    "STRING",
                    {"default": "loras/trained", "tooltip": "Folder and beginning of the name in the output folder."},
                ),
            },
            "optional": {
                "batch": ("INT", {"default": 1, "min": 1, "max": 256, "tooltip": "Pictures seen together."}),
                "resume": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "Go on with a training of this name that was cancelled."},
                ),
                "alpha": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 4096.0,
                        "advanced": True,
                        "tooltip": "0: the same as the rank.",
                    },
                ),
                "accumulate": (
                    "INT",
                    {"default": 1, "min": 1, "max": 256, "advanced": True, "tooltip": "Batches before a step."},
                ),
                "targets": (list(TARGETS), {"advanced": True, "tooltip": "Which layers of the model's blocks learn."}),
                "blocks": (
                    "STRING",
                    {"default": "", "advanced": True, "tooltip": "As in LoRA Stack; blocks at 0 do not learn."},
                ),
                "min_snr": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 100.0,
                        "step": 0.5,
                        "advanced": True,
                        "tooltip": "Gamma of min-SNR, 5 is usual; 0: off. Not for flow models.",
                    },
                ),
                "levels": (
                    list(WAYS),
                    {"advanced": True, "tooltip": "Which noise levels are practised. auto: as the model was trained."},
                ),
                "shuffle_tags": ("BOOLEAN", {"default": False, "advanced": True, "tooltip": "Tags change places."}),
                "keep_tags": (
                    "INT",
                    {"default": 0, "min": 0, "max": 100, "advanced": True, "tooltip": "Tags in front that stay."},
                ),
                "drop_caption": (
                    "FLOAT",
                    {
                        "default": 0.05,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "advanced": True,
                        "tooltip": "How often a caption is left out.",
                    },
                ),
                "keep_base": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.1,
                        "advanced": True,
                        "tooltip": "How much the model's own answers to the class word are held; 1 is usual, 0: off.",
                    },
                ),
                "class_word": (
                    "STRING",
                    {"default": "", "advanced": True, "tooltip": "What the trigger is one of: dog, woman, painting."},
                ),
                "dropout": (
                    "FLOAT",
                    {"default": 0.0, "min": 0.0, "max": 0.9, "step": 0.05, "advanced": True, "tooltip": "Of the LoRA."},
                ),
                "average": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 0.9999,
                        "step": 0.001,
                        "round": False,
                        "advanced": True,
                        "tooltip": "Decay of a running mean, which is then the result; 0.99 is usual, 0: off.",
                    },
                ),
                "held_out": (
                    "FLOAT",
                    {
                        "default": 0.1,
                        "min": 0.0,
                        "max": 0.9,
                        "step": 0.05,
                        "advanced": True,
                        "tooltip": "Share of the pictures that only judge; with fewer than five, none.",
                    },
                ),
                "dialect": (DIALECTS, {"advanced": True, "tooltip": "How the file names its parts."}),
            },
        }

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
    ):
        plan = LoRAPlan(
            steps=steps,
            seed=seed,
            lr=learning_rate,
            rank=rank,
            alpha=alpha or float(rank),
            batch=batch,
            accumulate=accumulate,
            warm_up=min(20, steps // 10),
            average=average,
            dropout=dropout,
            targets=targets,
            blocks=blocks,
            levels=levels,
            weighting=Weighting(min_snr=min_snr),
            captions=CaptionPlan(trigger.strip(), shuffle_tags, 0.0, drop_caption, keep_tags),
            keep=keep_base,
            class_word=class_word.strip(),
            held_out=held_out,
        )
        places, facts = host.data_places(), host.vae_facts(vae)
        title = filename_prefix.replace("\\", "/").rpartition("/")[2] or "lora"
        job = Job(
            folder=places.pictures_folder(folder, subfolder),
            state=places.output / _TRAININGS / title,
            resolution_px=resolution,
            step_px=_STEP_CELLS * (facts.px_per_cell or 8),
            plan=plan,
            title=title,
            dialect=dialect,
            resume=resume,
            every=max(1, steps // 10),
        )
        prepared = prepare(job, lambda image: host.encode_image(vae, image, None, Tiling()).result, host.progress(1))
        bar = host.progress(steps)
        done = work(
            job,
            prepared,
            lambda text: TextEncode().encode(clip, text)["result"][0],
            lambda: host.trainee(model),
            host.weights(model),
            lambda: host.output_path(filename_prefix, ".safetensors"),
            lambda step, total, loss: bar(step, total),
        )
        changes = {place: [Change(lora, 1.0)] for place, lora in places_of(done.made.adapters).items()}
        lines, data = report_of(done, plan)
        return shown(lines, data, (host.patched(model, changes), str(done.path), as_json(data)))


def report_of(done: Done, plan: LoRAPlan) -> tuple[list[str], dict[str, object]]:
    """What was trained, in words and as data."""
    made, prepared = done.made, done.prepared
    count, steps = len(prepared.pictures), len(made.losses)
    lines = [
        f"{done.path.name}: rank {plan.rank}, {len(made.layers)} layers, {made.trained:,} numbers trained",
        f"{count} pictures, {steps} steps in {done.seconds / 60:.1f} minutes"
        + (f" (of {plan.steps}: stopped early)" if made.is_early else ""),
    ]
    lines += [f"loss on {_judges(done)}: {_course(done)}"] if made.validation else []
    lines += [f"⚠ {len(prepared.without_caption)} pictures have no caption: they were trained without one"] * bool(
        prepared.without_caption
    )
    lines += [f"⚠ {len(prepared.unused)} files were not used"] * bool(prepared.unused)
    lines += [f"  {name}: {why}" for name, why in list(prepared.unused.items())[:3]]
    lines += [f"⚠ {len(done.without_name)} layers have no name in this dialect"] * bool(done.without_name)
    if len({picture.caption for picture in prepared.pictures}) == 1 and count > 1:
        lines.append("all captions are the same: what they say is learned as part of it")
    data: dict[str, object] = {
        "file": str(done.path),
        "steps": steps,
        "stopped_early": made.is_early,
        "rank": plan.rank,
        "layers": len(made.layers),
        "numbers_trained": made.trained,
        "pictures": count,
        "sizes": prepared.sizes_px,
        "cut_away_on_average": round(fmean(prepared.cuts), 4),
        "masked": prepared.masked,
        "enlarged": prepared.enlarged,
        "without_caption": prepared.without_caption,
        "unused": prepared.unused,
        "held_out": list(made.held_out),
        "without_name": dict(done.without_name),
        "losses": [round(loss, 6) for loss in made.losses],
        "validation": [{"step": one.step, "loss": one.mean, "bands": list(one.bands)} for one in made.validation],
        "plan": plan.describe(),
        "seconds": round(done.seconds, 1),
    }
    return lines, data


def _judges(done: Done) -> str:
    held_out = len(done.made.held_out)
    return f"{held_out} held-out pictures" if held_out else "pictures of the training"


def _course(done: Done) -> str:
    first, last = done.made.validation[0].mean, done.made.validation[-1].mean
    change = 100 * (last / first - 1) if first else 0.0
    return f"{first:.4f} before, {last:.4f} after ({change:+.1f} %)"


NODES = {"CVL_TrainLoRA": (TrainLoRA, "Train LoRA (CVL)")}
