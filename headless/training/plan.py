"""A plan as TOML becomes a workflow: the nodes that load its models, and the node that trains behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from ...training.lora.plan_file import GRAPH, MODELS, PICTURES, TRAINING, PlanFile
from ..workflow.graph import Prompt, WorkflowError, link_of

TRAINER = "train"  # the id of the node that trains in the workflow


@dataclass(frozen=True)
class Kind:
    """What is trained. node: the class that does it, and its title. loaders: a wire -> what loads a file for it here
    and in ComfyUI, class and input. made: wires of which a plan can only name the nodes behind them, the first one in
    the place of the folder of pictures. optional: wires that a plan may leave out.
    """

    what: str
    node: str
    title: str
    loaders: Mapping[str, tuple[str, str]]
    made: tuple[str, ...]
    optional: tuple[str, ...] = ()


_LOAD_VAE = ("CVL_LoadVAE", "file")
LORA = Kind(
    "lora",
    "CVL_TrainLoRA",
    "Train LoRA",
    {"model": ("CVL_LoadDiffusionModel", "file"), "clip": ("CVL_LoadTextEncoder", "file"), "vae": _LOAD_VAE},
    ("latent", "positive"),
)
VAE = Kind(
    "vae",
    "CVL_TrainVAE",
    "Train VAE",
    {"vae": _LOAD_VAE, "clip_model": ("CVL_LoadCLIPModel", "file")},
    ("image",),
    ("clip_model",),
)
_SLOTS = {"model": 0, "clip": 1, "vae": 2}  # of a checkpoint
_CHECKPOINT = "checkpoint"  # one file for all of them, as ComfyUI loads it


def read_plan(path: Path, changes: Mapping[str, object], kind: Kind = LORA) -> PlanFile:
    """Read a plan; `changes` are models, and the pictures' folder, that are given instead of its own.

    Raises:
        WorkflowError: there is no such file, it is no plan, or it has names that the node does not know.
    """
    try:
        plan = parse_plan(path.read_text(encoding="utf-8"))
        check_names(plan.models, (*kind.loaders, *kind.made, _CHECKPOINT), "[models] of the plan has no")
    except OSError as error:
        raise WorkflowError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WorkflowError(f"{path.name}: {error}") from error
    models = {name: changes[name] for name in (*kind.loaders, _CHECKPOINT) if changes.get(name)}
    training = dict(plan.training)
    if changes.get(PICTURES):
        training[PICTURES] = str(Path(str(changes[PICTURES])).resolve())
    elif PICTURES in training:
        training[PICTURES] = str((path.parent / str(training[PICTURES])).resolve())
    return replace(plan, training=training, models={**plan.models, **models})


def parse_plan(text: str) -> PlanFile:
    """The plan that a TOML text holds.

    Raises:
        ValueError: it is no TOML, or has other parts. ModuleNotFoundError: Python 3.10 without the package tomli.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found,no-redef]
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the plan is no TOML: {error}") from error
    check_names(found, (TRAINING, MODELS, GRAPH), "the plan has no part")
    for part in (TRAINING, MODELS, GRAPH):
        if not isinstance(found.get(part, {}), Mapping):
            raise ValueError(f"[{part}] of the plan is no table of names and values: begin it with [{part}]")
    return PlanFile(found.get(TRAINING, {}), found.get(MODELS, {}), found.get(GRAPH, {}))


def check_names(given: Mapping[str, object], known: tuple[str, ...], what: str) -> None:
    """Refuse names that nobody knows, with the nearest that are known.

    Raises:
        ValueError: names the first.
    """
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 3, 0.5)
            raise ValueError(f"{what} {name!r}; {'near are' if near else 'there are'} {', '.join(near or known)}")


def pictures_of(plan: PlanFile, kind: Kind = LORA) -> Path | None:
    """The folder of the pictures; None where the graph makes what is learned from.

    Raises:
        WorkflowError: none is named, or it is not there.
    """
    if kind.made[0] in plan.models:
        return None
    if PICTURES not in plan.training:
        raise WorkflowError(f'the plan names no pictures: add pictures = "FOLDER" to [training], or give --{PICTURES}')
    found = Path(str(plan.training[PICTURES]))
    if not found.is_dir():
        raise WorkflowError(f"the folder of pictures {found} is not there: change {PICTURES} in the plan")
    return found


def workflow_of(plan: PlanFile, known: tuple[str, ...], *, resume: bool, in_comfyui: bool, kind: Kind = LORA) -> Prompt:
    """The workflow in API format. `known`: the inputs of the node that a plan may have.

    Raises:
        WorkflowError: an unknown name, a model that is not said, a graph that is none.
    """
    try:
        check_names(plan.training, (PICTURES, *known), f"{kind.title} has no input")
    except ValueError as error:
        raise WorkflowError(str(error)) from error
    prompt: Prompt = {str(node): node_of(str(node), found) for node, found in plan.graph.items()}
    inputs = {name: value for name, value in plan.training.items() if name != PICTURES}
    pictures = pictures_of(plan, kind)
    inputs |= {"folder": "input", "subfolder": "" if pictures is None else pictures.name, "resume": resume}
    checkpoint = plan.models.get(_CHECKPOINT)
    if checkpoint is not None:
        prompt[_CHECKPOINT] = _loader("CheckpointLoaderSimple", {"ckpt_name": checkpoint})
    for wire in (*kind.loaders, *(wire for wire in kind.made if wire in plan.models)):
        source, slot = plan.models.get(wire), _SLOTS.get(wire) if checkpoint is not None else None
        if source is None and slot is None:
            if wire in kind.optional:
                continue
            raise WorkflowError(f"the plan does not say which {wire} to use: add it to [models], or give --{wire} FILE")
        link = link_of(source) or (_CHECKPOINT, slot or 0)
        if isinstance(source, str) and wire in kind.loaders:
            prompt[wire], link = _file_loader(kind.loaders[wire], wire, source, in_comfyui), (wire, 0)
        if link[0] not in prompt:
            raise WorkflowError(f"[models] of the plan links {wire} to node {link[0]}, which is not in its [graph]")
        inputs[wire] = list(link)
    prompt[TRAINER] = {"class_type": kind.node, "inputs": inputs, "_meta": {}}
    return prompt


def node_of(name: str, found: object) -> dict:
    """A node of a plan's graph as a workflow has it.

    Raises:
        WorkflowError: it has no class.
    """
    if not isinstance(found, Mapping) or not isinstance(found.get("class_type"), str):
        raise WorkflowError(
            f"[graph.{name}] of the plan has no class_type: a node as ComfyUI's API has it was expected"
        )
    return {"class_type": found["class_type"], "inputs": dict(found.get("inputs") or {}), "_meta": {}}


def _file_loader(loader: tuple[str, str], wire: str, file: str, in_comfyui: bool) -> dict:
    if wire == "model" and in_comfyui and not file.startswith("bundled/"):
        return _loader("UNETLoader", {"unet_name": file, "weight_dtype": "default"})
    name, key = loader
    return _loader(name, {key: file})


def _loader(name: str, inputs: dict[str, object]) -> dict:
    return {"class_type": name, "inputs": inputs, "_meta": {}}
