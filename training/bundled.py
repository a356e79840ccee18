"""The four files in models/: each made by its recipe, measured as stored, and written with its own story."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..clip_core.config import to_metadata
from ..files.tensors import write_tensors
from .loop import Checkpoint, OnStep, TrainingError, TrainingPlan
from .recipes import adapter as lora_recipe
from .recipes import clip as clip_recipe
from .recipes import diffusion as diffusion_recipe
from .recipes import vae as vae_recipe
from .reports import clip_report, diffusion_report, lora_report, vae_report
from .scenes.scene import COLOURS, HELD_OUT, SHAPES, pair_label
from .scores import pair_texts

FILES = {
    "clip": "tiny_clip.safetensors",
    "vae": "tiny_vae.safetensors",
    "lora": "tiny_clip_stripes_lora.safetensors",
    "diffusion": "tiny_diffusion.safetensors",
}
KINDS = tuple(FILES)
SCORE_SEED = 20_000_003  # of the pictures that the scores in the files were measured on
TEST_SEED = 30_000_001  # of those that the tests measure again on; no training uses either
_PLANS = {
    "clip": clip_recipe.PLAN,
    "vae": vae_recipe.PLAN,
    "lora": lora_recipe.PLAN,
    "diffusion": diffusion_recipe.PLAN,
}
_OBJECTIVES = {
    "clip": "symmetric contrastive loss, true pairs off the diagonal left out; beside it, the facts read off the "
    "features of pictures and captions by one linear layer that is not kept; all pictures grey at first, a "
    "quarter of them in the end",
    "vae": "absolute error of values and of neighbouring differences, and the KL divergence, of which each channel has "
    "a nat for each value free; it starts as a linear autoencoder, and in the end the decoder learns on alone",
    "lora": "the CLIP's, texture only, and each caption against the same one with the other texture; features of plain "
    "pictures and of captions without a texture held at the base's",
    "diffusion": "flow matching: the mean square of the difference between the velocity and noise - latent; a tenth of "
    "the captions left empty",
}
_COMMAND = "python headless/train.py bundled"
_USUAL = {"precision": "bfloat16", "threads": "1"}  # of that command; the last bits depend on them
_SCENES = f"{len(SHAPES)} shapes x {len(COLOURS)} colours, sizes, counts, places, backgrounds"


@dataclass(frozen=True)
class BundledFile:
    """A file that was written, and its held-out scores as texts."""

    path: Path
    scores: dict[str, str]


def plan_of(kind: str) -> TrainingPlan:
    """The plan of the bundled "clip", "vae" or "lora"."""
    return _PLANS[kind]


def make(
    kind: str,
    folder: Path,
    plan: TrainingPlan,
    precision: torch.dtype = torch.bfloat16,
    *,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
    checkpoint: Checkpoint | None = None,
) -> BundledFile:
    """Train, write and measure one file on `device`; the scores are those of the weights as stored.

    Raises:
        TrainingError: the LoRA or the diffusion model is wanted and the folder lacks what it is trained on.
    """
    path = folder / FILES[kind]
    how = {"precision": str(precision).removeprefix("torch."), "threads": str(torch.get_num_threads())}
    options = [f" --{name} {value}" for name, value in how.items() if value != _USUAL[name]]
    story = {
        "format": "pt",
        "licence": "MIT",
        "author": "comfyui-clip-vae-lora",
        "seed": str(plan.seed),
        "steps": str(plan.steps),
        "torch": torch.__version__,
        "device": torch.device(device).type,
        "command": f"{_COMMAND} --only {kind}{''.join(options)}",
        **how,
        **plan.describe(),
    }
    maker = {"clip": _make_clip, "vae": _make_vae, "lora": _make_lora, "diffusion": _make_diffusion}[kind]
    scores = maker(path, plan, precision, story, torch.device(device), on_step=on_step, checkpoint=checkpoint)
    return BundledFile(path, scores)


def _make_clip(
    path: Path, plan: TrainingPlan, precision: torch.dtype, story: dict[str, str], device: torch.device, **hooks
) -> dict[str, str]:
    model = clip_recipe.train_clip(plan, precision=precision, device=device, **hooks)
    story = story | {
        **to_metadata(clip_recipe.CONFIG),
        "batch": str(clip_recipe.BATCH),
        "layout": "Hugging Face CLIPModel",
        "data": f"drawn {_SCENES}; captions from the same facts; a fresh batch each step",
        "objective": _OBJECTIVES["clip"],
        "never trained": ", ".join(pair_label(pair) for pair in HELD_OUT),
        "labels": f"{len(pair_texts())} of the form {pair_texts()[0]!r}",
        "table": "token embeddings are random and frozen, float8_e4m3fn; all other tensors float16",
    }
    report = partial(clip_report, path, SCORE_SEED, device=device)
    return _write_measured(path, clip_recipe.stored_clip(model), story, report)


def _make_vae(
    path: Path, plan: TrainingPlan, precision: torch.dtype, story: dict[str, str], device: torch.device, **hooks
) -> dict[str, str]:
    model = vae_recipe.train_vae(plan, precision=precision, device=device, **hooks)
    story = story | {
        "batch": str(vae_recipe.BATCH),
        "layout": "latent-diffusion AutoencoderKL",
        "objective": _OBJECTIVES["vae"],
        "decoder steps": str(vae_recipe.decoder_plan(plan).steps),
        "px per cell": str(model.config.factor),
        "kl weight": str(vae_recipe.KL_WEIGHT),
        "edge weight": str(vae_recipe.EDGE_WEIGHT),
        "data": "drawn scenes, dead leaves, 1/f clouds and gradients: 64 px parts of pictures of 64, 128 and 256 px; "
        "a fresh batch each step; no photograph",
    }
    report = partial(vae_report, path, SCORE_SEED, device=device)
    return _write_measured(path, vae_recipe.stored_vae(model), story, report)


def _make_lora(
    path: Path, plan: TrainingPlan, precision: torch.dtype, story: dict[str, str], device: torch.device, **hooks
) -> dict[str, str]:
    (clip_path,) = _needed("the LoRA", path.parent, "clip")
    base = clip_recipe.read_clip(clip_path).to(device)
    made = lora_recipe.train_adapter(base, plan, precision=precision, **hooks)
    story = (
        story
        | {
            "batch": str(lora_recipe.BATCH),
            "base": clip_path.name,
            "modelspec.title": "stripes for the bundled CLIP",
            "objective": _OBJECTIVES["lora"],
            "data": 'drawn scenes, half of the things striped; half of the captions say "striped" or "plain"',
        }
        | {f"trained share {name}": f"{share:.2%}" for name, share in made.shares().items()}
    )
    tensors, story = lora_recipe.stored_adapter(made.adapters, base, story)
    report = partial(lora_report, clip_path, path, SCORE_SEED, device=device)
    scores = _write_measured(path, tensors, story, report)
    return scores | {f"trained share {name}": f"{share:.2%}" for name, share in made.shares().items()}


def _make_diffusion(
    path: Path, plan: TrainingPlan, precision: torch.dtype, story: dict[str, str], device: torch.device, **hooks
) -> dict[str, str]:
    clip_path, vae_path = _needed("the diffusion model", path.parent, "clip", "vae")
    clip, vae = clip_recipe.read_clip(clip_path).to(device), vae_recipe.read_vae(vae_path).to(device)
    model = diffusion_recipe.train_diffusion(clip, vae, plan, precision=precision, **hooks)
    story = story | {
        "batch": str(diffusion_recipe.BATCH),
        "base": f"{clip_path.name}, {vae_path.name}",
        "data": f"{diffusion_recipe.PICTURES:,} drawn {_SCENES}, {diffusion_recipe.SIDE_PX} px; captions from the same "
        "facts, anew each step",
        "objective": _OBJECTIVES["diffusion"],
        "never trained": ", ".join(pair_label(pair) for pair in HELD_OUT),
    }
    report = partial(diffusion_report, path, clip_path, vae_path, SCORE_SEED, device=device)
    return _write_measured(path, diffusion_recipe.stored_diffusion(model), story, report)


def _needed(what: str, folder: Path, *kinds: str) -> list[Path]:
    """The files that a training builds on. Raises TrainingError where one is missing."""
    paths = [folder / FILES[kind] for kind in kinds]
    for kind, path in zip(kinds, paths):
        if not path.exists():
            raise TrainingError(f"{what} is trained on {path.name}, which is not in {folder.name}: train {kind} first")
    return paths


def _write_measured(
    path: Path, tensors: dict[str, Tensor], story: dict[str, str], report: Callable[[], dict[str, str]]
) -> dict[str, str]:
    """Write, measure what was written, and write again with the scores in the header."""
    write_tensors(path, tensors, story)
    scores = report()
    write_tensors(path, tensors, story | {f"score: {name}": value for name, value in scores.items()})
    return scores
