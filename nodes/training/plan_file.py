"""The plan that a node ran which trains, as the file that `cvl train` runs; and the nodes that made its models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...training.lora.plan_file import PICTURES, PlanFile
from . import settings, vae_settings

_NOT_TOLD = ("folder", "subfolder", "resume")  # said otherwise in a file, or by the command
_FEW_STEPS = re.compile(r"(?<![a-z])(turbo|lightning|schnell|lcm|hyper|dmd2?|\d-?steps?)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Trainer:
    """A node that trains: its inputs, and those of them that are wires."""

    inputs: tuple[str, ...]
    wires: tuple[str, ...]

    def told(self) -> tuple[str, ...]:
        """The inputs that a plan has."""
        return tuple(name for name in self.inputs if name not in (*self.wires, *_NOT_TOLD))


LORA = Trainer((*settings.REQUIRED, *settings.OPTIONAL), ("model", "clip", "vae", *settings.LISTS))
VAE = Trainer((*vae_settings.REQUIRED, *vae_settings.OPTIONAL), ("vae", "image", "clip_model"))
TRAINERS = {"CVL_TrainLoRA": LORA, "CVL_TrainVAE": VAE}


def input_names(node: str = "CVL_TrainLoRA") -> tuple[str, ...]:
    """The inputs of a node that trains that a plan has."""
    return TRAINERS[node].told()


def plan_file_of(
    given: Mapping[str, object],
    pictures: Path | None,
    prompt: Mapping[str, Mapping] | None,
    node: str | None,
    trainer: Trainer,
) -> PlanFile:
    """The plan of the node's inputs, by name.

    prompt, node: as in `behind`.
    """
    training = {
        **({} if pictures is None else {PICTURES: str(pictures)}),
        **{name: given[name] for name in trainer.told()},
    }
    return PlanFile(training, *behind(trainer.wires, prompt, node))


def behind(
    wires: Sequence[str], prompt: Mapping[str, Mapping] | None, node: str | None
) -> tuple[dict[str, list], dict[str, Mapping]]:
    """What stands on a node's wires, [node, output] of the graph, and the graph of all nodes behind them.

    prompt, node: the workflow as ComfyUI's API has it, and which of its nodes this is, where that is known.
    """
    inputs = ((prompt or {}).get(str(node)) or {}).get("inputs") or {}
    models = {wire: inputs[wire] for wire in wires if isinstance(inputs.get(wire), list)}
    graph: dict[str, Mapping] = {}
    waiting = [str(link[0]) for link in models.values()]
    while waiting and prompt is not None:
        name = waiting.pop()
        if name in graph or name not in prompt:
            continue
        found = prompt[name]
        graph[name] = {"class_type": found["class_type"], "inputs": found["inputs"]}
        waiting += [str(value[0]) for value in found["inputs"].values() if isinstance(value, list) and len(value) == 2]
    return models, graph


def to_share(plan: PlanFile) -> PlanFile:
    """The same for others to read: of the folder of pictures, and of files of models, only the name."""
    models = {wire: Path(found).name if isinstance(found, str) else found for wire, found in plan.models.items()}
    if PICTURES not in plan.training:
        return replace(plan, models=models)
    pictures = Path(str(plan.training[PICTURES])).name
    return replace(plan, training={**plan.training, PICTURES: pictures}, models=models)


def names_of_few_steps(plan: PlanFile) -> list[str]:
    """Files of the graph whose names say that they were distilled to a few steps; a guess, for a warning."""
    texts = [text for node in plan.graph.values() for text in node["inputs"].values() if isinstance(text, str)]
    files = [text for text in texts if text.lower().endswith((".safetensors", ".gguf", ".ckpt", ".sft"))]
    return sorted({text for text in files if _FEW_STEPS.search(text)})
