"""The node that trains a VAE's decoder from pictures."""

from __future__ import annotations

from ...training.lora.plan_file import plan_text
from ...training.optimisers import OPTIMISERS
from ...training.record.log import TRAININGS, title_of
from ...training.vae.parts import PARTS
from ...training.vae.perceptual import tower_of
from ...training.vae.pictures import gather_folder, gather_image
from ...training.vae.plan import PRECISIONS
from ...training.vae.stored import DTYPES
from ...training.vae.work import Job, work
from ..checks import check_image, check_numbers
from ..host import host
from ..reports import as_json, shown
from ..vae.fit import picture_vae
from . import vae_settings
from .inputs import fingerprint
from .plan_file import VAE, plan_file_of, to_share
from .vae_live import LiveVAE
from .vae_report import report_of

_VALIDATIONS = 5  # whole pictures take their time


class TrainVAE:
    CATEGORY = "CVL/VAE"
    DESCRIPTION = (
        "Trains the decoder of a VAE from your pictures, and gives the VAE with it: sharper eyes, lines or text of "
        "your kind. Its encoder stays as it is, so every model and latent still fits, which is proven. Whole pictures "
        "judge before and after, and a training that was cancelled goes on where it stopped."
    )
    SEARCH_ALIASES = [
        "train vae",
        "vae trainer",
        "fine-tune vae",
        "finetune vae",
        "decoder",
        "sharper vae",
        "vae lora",
        "sd-vae-ft",
    ]
    RETURN_TYPES = ("VAE", "STRING", "STRING")
    RETURN_NAMES = ("vae", "path", "report")
    OUTPUT_TOOLTIPS = (
        "The VAE with what it has learned, as its file holds it.",
        "Where the VAE's file was written.",
        "Whole pictures before and after, the proof of the latents, each loss, and every picture not used, as JSON.",
    )
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        hidden = {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"}
        return {"required": vae_settings.REQUIRED, "optional": vae_settings.OPTIONAL, "hidden": hidden}

    @classmethod
    def IS_CHANGED(cls, folder="input", subfolder="", image=None, **_: object) -> str | float:
        return "" if image is not None else fingerprint(folder, subfolder)

    def train(
        self,
        vae,
        folder,
        subfolder,
        steps,
        crop,
        learning_rate,
        seed,
        filename_prefix,
        image=None,
        clip_model=None,
        batch=4,
        rank=0,
        resume=False,
        perceptual=0.0,
        held_out=0.2,
        part=PARTS[0],
        alpha=0.0,
        accumulate=1,
        average=0.99,
        absolute=1.0,
        squared=1.0,
        scales=0.5,
        edges=0.5,
        spectrum=0.0,
        shrink=1.0,
        mirror=True,
        sample=False,
        hold=1.0,
        encoder_rate=0.1,
        optimiser=OPTIMISERS[0],
        precision=PRECISIONS[0],
        save_as=DTYPES[0],
        prompt=None,
        unique_id=None,
    ):
        return _trained(locals())


def _trained(given) -> dict:
    """Train with the inputs of the node, by name, and give its answer."""
    picture_vae(given["vae"])
    places, image = host.data_places(), given["image"]
    pictures = None
    if image is None:
        pictures = places.pictures_folder(given["folder"], given["subfolder"])
    else:
        check_image(image)
        check_numbers(image, "this IMAGE")
    job = _job(given, pictures, places.output)
    trainee = host.trainable_vae(given["vae"])
    gathered = gather_image(image) if pictures is None else gather_folder(pictures, host.progress(1))
    tower = None
    if given["clip_model"] is not None and job.plan.weights.perceptual:
        tower = tower_of(host.clip_network(given["clip_model"]), trainee.room().device)
    live = LiveVAE(
        str(given["unique_id"]),
        lambda picture: host.save_preview(picture, TRAININGS),
        on_step=host.progress(job.plan.steps),
        tell=lambda output: host.tell(str(given["unique_id"]), output),
    )
    done = work(job, gathered, trainee, lambda: host.output_path(given["filename_prefix"], ".safetensors"), live, tower)
    made = host.make_vae(trainee.build, done.made.stored.state, trainee.dtype)
    lines, data = report_of(done, job)
    results = (made, str(done.path), as_json(data))
    return shown(lines, data, results, list(live.samples.values()), chart=live.chart())


def _job(given, pictures, output) -> Job:
    """What is to be done. Raises ValueError for a plan that cannot be followed."""
    plan = vae_settings.plan_of(given)
    title = title_of(given["filename_prefix"], "vae")
    file = plan_file_of(given, pictures, given["prompt"], given["unique_id"], VAE)
    notes = ["the CLIP looks at nothing, for the weight of its loss is 0"]
    return Job(
        state=output / TRAININGS / title,
        plan=plan,
        title=title,
        resume=given["resume"],
        every=max(1, -(-plan.steps // _VALIDATIONS)),
        dtype=given["save_as"],
        text=plan_text(file, "vae"),
        told={"cvl.plan_file": plan_text(to_share(file), "vae")} if host.saves_workflow() else {},
        notes=notes if given["clip_model"] is not None and not plan.weights.perceptual else (),
    )


NODES = {"CVL_TrainVAE": (TrainVAE, "Train VAE (CVL)")}
