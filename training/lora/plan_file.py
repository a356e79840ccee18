"""A training as a TOML file: what Train LoRA was told, and where its models come from. The node writes it, the command
`cvl train lora` runs it.

    [training]                                # the inputs of Train LoRA, by name; what is left out is as in the node
    pictures = "my_pictures"                  # a folder, seen from the file
    steps = 500

    [models]                                  # what stands on the node's wires: a file, or an output of a node below
    model = "bundled/tiny_diffusion.safetensors"
    clip = ["4", 1]
    vae = ["4", 2]

    [graph.4]                                 # nodes as ComfyUI's API has them
    class_type = "CheckpointLoaderSimple"
    inputs = {ckpt_name = "sd15.safetensors"}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

TRAINING, MODELS, GRAPH = "training", "models", "graph"
PICTURES = "pictures"


@dataclass(frozen=True)
class PlanFile:
    """training: inputs of the node -> values, and where the pictures lie. models: a wire of the node -> a file's name,
    or [node, output] of the graph. graph: nodes as ComfyUI's API has them.
    """

    training: Mapping[str, object]
    models: Mapping[str, object] = field(default_factory=dict)
    graph: Mapping[str, Mapping] = field(default_factory=dict)


_HEADS = {  # by the command's word
    "lora": "# A training by Train LoRA (CVL); `cvl train lora FILE` runs it again",
    "clip": "# A training of a CLIP; `cvl train clip FILE` runs it again",
    "vae": "# A training by Train VAE (CVL); `cvl train vae FILE` runs it again",
}


def plan_text(plan: PlanFile, what: str = "lora") -> str:
    """The plan as TOML; `what` it trains, "lora", "clip" or "vae"."""
    lines = [_HEADS[what]]
    lines += ["", f"[{TRAINING}]", *_pairs(plan.training)]
    if plan.models:
        lines += ["", f"[{MODELS}]", *_pairs(plan.models)]
    for node, found in plan.graph.items():
        lines += ["", f"[{GRAPH}.{_text(node)}]", *_pairs(found)]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, object]) -> list[str]:
    return [f"{_key(name)} = {_value(value)}" for name, value in table.items() if value is not None]


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "a").replace("-", "a").isalnum() else _text(name)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(one) for one in value if one is not None) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    """A text in quotes: TOML's escapes are JSON's, but for one letter that JSON leaves as it is."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")
