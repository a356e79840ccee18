"""The three files in models/: each made by its recipe, measured as stored, and written with its own story."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..clip_core.config import to_metadata
from ..clip_core.tokenizer import Tokenizer
from ..files.tensors import write_tensors
from .fidelity import vae_scores
from .loop import Checkpoint, OnStep, TrainingError, TrainingPlan
from .recipes import adapter as lora_recipe
from .recipes import clip as clip_recipe
from .recipes import vae as vae_recipe
from .scenes.scene import COLOURS, HELD_OUT, PAIRS, SHAPES, pair_label
from .scores import clip_scores, pair_texts, recall_scores, texture_score

FILES = {"clip": "tiny_clip.safetensors", "vae": "tiny_vae.safetensors", "lora": "tiny_clip_stripes_lora.safetensors"}
KINDS = tuple(FILES)
SCORE_SEED = 20_000_003  # of the pictures that the scores in the files were measured on
TEST_SEED = 30_000_001  # of those that the tests measure again on; no training uses either
_PLANS = {"clip": clip_recipe.PLAN, "vae": vae_recipe.PLAN, "lora": lora_recipe.PLAN}
_OBJECTIVES = {
    "clip": "symmetric contrastive loss, true pairs off the diagonal left out; beside it, the facts read off the "
    "features of pictures and captions by one linear layer that is not kept; all pictures grey at first, a "
    "quarter of them in the end",
    "vae": "absolute error of values and of neighbouring differences, and the KL divergence; it starts as a linear "
    "autoencoder",
    "lora": "the CLIP's, texture only, and each caption against the same one with the other texture; features of plain "
    "pictures and of captions without a texture held at the base's",
}
_COMMAND = "python headless/train.py bundled"
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
        TrainingError: the LoRA is wanted and the folder has no CLIP.
    """
    path = folder / FILES[kind]
    story = {
        "format": "pt",
        "licence": "MIT",
        "author": "comfyui-clip-vae-lora",
        "seed": str(plan.seed),
        "steps": str(plan.steps),
        "command": f"{_COMMAND} --only {kind}",
        "precision": str(precision).removeprefix("torch."),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "device": torch.device(device).type,
        **plan.describe(),
    }
    maker = {"clip": _make_clip, "vae": _make_vae, "lora": _make_lora}[kind]
    scores = maker(path, plan, precision, story, torch.device(device), on_step=on_step, checkpoint=checkpoint)
    return BundledFile(path, scores)


def clip_report(path: Path, seed: int, count: int = 1000, device: torch.device | str = "cpu") -> dict[str, str]:
    """Scores of a stored CLIP beside chance and the untrained model."""
    tokenizer, model = Tokenizer(), clip_recipe.read_clip(path).to(device)
    report = {
        f"zero-shot, {name}": _percent(value) for name, value in clip_scores(model, tokenizer, seed, count).items()
    }
    report |= {f"recall, {way}": _percent(value) for way, value in recall_scores(model, tokenizer, seed).items()}
    untrained = clip_scores(clip_recipe.new_clip(0).to(device), tokenizer, seed, count)
    report["zero-shot, trained pairs, untrained model"] = _percent(untrained["trained pairs"])
    report["zero-shot, trained pairs, chance"] = _percent(1 / len(PAIRS))
    return report


def lora_report(
    clip_path: Path, lora_path: Path, seed: int, count: int = 1000, device: torch.device | str = "cpu"
) -> dict[str, str]:
    """The new attribute and the old labels, without and with the stored LoRA."""
    tokenizer, base = Tokenizer(), clip_recipe.read_clip(clip_path).to(device)
    report = {}
    for name, model in {"base": base, "with LoRA": lora_recipe.with_adapter(base, lora_path)}.items():
        report[f"striped or plain, {name}"] = _percent(texture_score(model, tokenizer, seed, count))
        scores = clip_scores(model, tokenizer, seed, count)
        report[f"old labels, {name}"] = _percent(scores["trained pairs"])
        report[f"old labels, never trained pairs, {name}"] = _percent(scores["never trained pairs"])
    report["striped or plain, chance"] = _percent(0.5)
    return report


def vae_report(path: Path, seed: int, count: int = 100, device: torch.device | str = "cpu") -> dict[str, str]:
    """Round trips of a stored autoencoder."""
    scores = vae_scores(vae_recipe.read_vae(path).to(device), seed, count)
    return {name: f"{value:.2f}" if name.startswith("latent") else f"{value:.2f} dB" for name, value in scores.items()}


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
    clip_path = path.with_name(FILES["clip"])
    if not clip_path.exists():
        raise TrainingError(
            f"the LoRA is trained on {clip_path.name}, which is not in {path.parent.name}: train clip first"
        )
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


def _write_measured(
    path: Path, tensors: dict[str, Tensor], story: dict[str, str], report: Callable[[], dict[str, str]]
) -> dict[str, str]:
    """Write, measure what was written, and write again with the scores in the header."""
    write_tensors(path, tensors, story)
    scores = report()
    write_tensors(path, tensors, story | {f"score: {name}": value for name, value in scores.items()})
    return scores


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
