"""cvl COMMAND: one word for all that works without a browser; `cvl COMMAND --help` tells the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from .report import missing_package

_COMMANDS = {
    "run": ("command", "run a workflow, or many jobs of one (--batch, --vary), here or on ComfyUI servers"),
    "check": ("check_command", "name everything that is wrong with a workflow, without a run"),
    "doctor": ("doctor_command", "say what files of weights are, whether they are whole, and what they fit"),
    "lora": ("lora.command", "merge, shrink, extract, compare and edit LoRA files, and put them into checkpoints"),
    "train": (
        "train",
        "train a LoRA, a CLIP or a VAE as a plan says (lora|clip|vae PLAN.toml), or the bundled weights anew",
    ),
    "embed": ("embed", "embed a folder of pictures into an index that Search Images reads"),
    "learn": ("labels.command", "learn labels from a few labelled pictures of an index (labels INDEX)"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        lines = (f"  {word:6} {what}" for word, (_, what) in _COMMANDS.items())
        print("\n".join(["cvl COMMAND ...", "", *lines, "", "cvl COMMAND --help tells the rest."]))
        return 0
    if name not in _COMMANDS:
        print(f"error: there is no command {name!r}; expected one of {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return import_module(f".{_COMMANDS[name][0]}", __package__).main(arguments[1:], prog=f"cvl {name}")
    except ModuleNotFoundError as error:
        print(f"error: {missing_package(error)}", file=sys.stderr)
        return 2
