"""The held-out scores of the stored files in models/, as texts: each beside what they have to be compared with."""

from pathlib import Path

import torch

from ..clip_core.tokenizer import Tokenizer
from .fidelity import vae_scores
from .generation import generation_scores
from .recipes import adapter as lora_recipe
from .recipes import clip as clip_recipe
from .recipes import diffusion as diffusion_recipe
from .recipes import vae as vae_recipe
from .scenes.scene import PAIRS
from .scores import clip_scores, recall_scores, texture_score


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


def diffusion_report(
    path: Path, clip_path: Path, vae_path: Path, seed: int, count: int = 200, device: torch.device | str = "cpu"
) -> dict[str, str]:
    """What a stored diffusion model makes of prompts, with the stored CLIP and VAE."""
    clip, vae = clip_recipe.read_clip(clip_path).to(device), vae_recipe.read_vae(vae_path).to(device)
    scores = generation_scores(diffusion_recipe.read_diffusion(path).to(device), clip, vae, seed, count)
    return {f"shape and colour as asked, {name}": _percent(value) for name, value in scores.items()}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
