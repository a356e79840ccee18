"""What the files in models/ say about themselves, as a page."""

from pathlib import Path

from ...files.tensors import open_tensors
from ..bundled import FILES

_WHAT = {
    "clip": "CLIP: both encoders, in Hugging Face's names; 48 px pictures, the full vocabulary",
    "vae": "autoencoder: 4 latent channels, 4 px for each cell, in latent-diffusion's names",
    "lora": 'LoRA for that CLIP: teaches "striped" and "plain"; kohya\'s names',
    "diffusion": "diffusion model for that CLIP and VAE: 64 px pictures from prompts, flow matching",
}
_SCORE = "score: "
_HEAD = """# Bundled weights

Made by this project from pictures that it draws itself (`training/`); nothing was downloaded. MIT, as the project.
This page is written by the training command from the headers of the files.

Everything anew, on two cores (an interrupted run goes on with `--resume`):

    python headless/train.py bundled

The same command with the same type of processor and version of torch is meant to give the same tensors, bit for bit
(one thread by default; the order of a header's entries may differ). Elsewhere the last bits differ, and scores by about
a point. Without bfloat16 instructions in the processor, `--precision float32` is faster.
"""


def models_page(folder: Path) -> str:
    """Markdown: a table of the files that are there, then each one's facts and held-out scores."""
    rows = ["| file | bytes | what | seed | steps |", "|---|---|---|---|---|"]
    parts = []
    for kind, name in FILES.items():
        path = folder / name
        if not path.exists():
            continue
        with open_tensors(path) as file:
            story = file.metadata
        rows.append(f"| `{name}` | {path.stat().st_size:,} | {_WHAT[kind]} | {story['seed']} | {story['steps']} |")
        parts.append(_part(name, story))
    return "\n".join([_HEAD, *rows, *parts]) + "\n"


def _part(name: str, story: dict[str, str]) -> str:
    scores = [f"| {key.removeprefix(_SCORE)} | {story[key]} |" for key in sorted(story) if key.startswith(_SCORE)]
    lines = [f"\n## {name}", f"`{story['command']}`\n", f"Data: {story['data']}."]
    lines.append(f"Objective: {story['objective']}.")
    if "never trained" in story:
        lines.append(f"Pairs that were never trained, in pictures or in words: {story['never trained']}.")
    lines += [f"{key.capitalize()}: {value}." for key, value in story.items() if key.startswith("trained share")]
    return "\n".join([*lines, "\n| held-out score, weights as stored | |", "|---|---|", *scores])
