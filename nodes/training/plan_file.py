"""The plan that Train LoRA ran, as the file that `cvl train lora` runs; and the nodes that made its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...training.lora.plan_file import PICTURES, PlanFile
from . import settings

WIRES = ("model", "clip", "vae")
_NOT_TOLD = (*WIRES, "folder", "subfolder", "resume")  # said otherwise in a file, or by the command


def input_names() -> tuple[str, ...]:
    """The inputs of Train LoRA that a plan has."""
    return tuple(name for name in {**settings.REQUIRED, **settings.OPTIONAL} if name not in _NOT_TOLD)


def plan_file_of(
    given: Mapping[str, object], pictures: Path, prompt: Mapping[str, Mapping] | None, node: str | None
) -> PlanFile:
    """The plan of the node's inputs, by name.

    prompt, node: the workflow as ComfyUI's API has it, and which of its nodes this is, where that is known.
    """
    training = {PICTURES: str(pictures), **{name: given[name] for name in input_names()}}
    inputs = ((prompt or {}).get(str(node)) or {}).get("inputs") or {}
    models = {wire: inputs[wire] for wire in WIRES if isinstance(inputs.get(wire), list)}
    graph: dict[str, Mapping] = {}
    waiting = [str(link[0]) for link in models.values()]
    while waiting and prompt is not None:
        name = waiting.pop()
        if name in graph or name not in prompt:
            continue
        found = prompt[name]
        graph[name] = {"class_type": found["class_type"], "inputs": found["inputs"]}
        waiting += [str(value[0]) for value in found["inputs"].values() if isinstance(value, list) and len(value) == 2]
    return PlanFile(training, models, graph)


def to_share(plan: PlanFile) -> PlanFile:
    """The same for others to read: of the folder of pictures only its name."""
    return replace(plan, training={**plan.training, PICTURES: Path(str(plan.training[PICTURES])).name})
