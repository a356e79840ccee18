"""Everything that a check finds wrong with a workflow, without a run: all of it at once, each with its node."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath

from .canvas import class_names
from .canvas.browser_only import VIRTUAL
from .canvas.widgets import all_inputs
from .check import fits, typed
from .folders import Folders
from .graph import ANY, Input, Prompt, Spec, Specs, WorkflowError, execution_order, is_canvas, label, link_of, spec_of
from .settings import opened, with_settings

_MODELS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".pkl")
_NEAR = 3


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `kind`: "node" (its class is missing), "model", "file", "value", "link", "input" (one is
    missing) or "workflow"; `near` are the nearest names that are there.
    """

    kind: str
    message: str
    node: str = ""
    title: str = ""
    class_type: str = ""
    input: str = ""
    near: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """The problem for programs."""
        return {name: list(value) if name == "near" else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Checked:
    """What a check found: problems, sentences on what is no problem, how many nodes were looked at."""

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    nodes: int


def check(document: Mapping, settings: Sequence[str], specs: Specs, folders: Folders, *, whole: bool) -> Checked:
    """Look at every node that leads to an output node; `specs` is what the server, or this process, has.

    `whole`: `specs` has all classes that there are, so that a class without a spec is a problem and no mere note.
    """
    notes: list[str] = []
    try:
        prompt, known, missing, shown = _opened(document, specs, notes)
        prompt, chosen = with_settings(prompt, settings, known, shown)
    except WorkflowError as error:
        return Checked((Problem("workflow", str(error)),), tuple(notes), 0)
    folders = replace(folders, chosen=chosen)
    problems: list[Problem] = []
    for node in (node for node, found in prompt.items() if found["class_type"] in missing):
        if whole:
            problems.append(_missing_class(prompt, node))
        else:
            notes.append(f"{label(prompt, node)} is not known here and was not checked; --server asks a ComfyUI")
    targets = [node for node, found in prompt.items() if spec_of(known, found["class_type"]).output_node]
    if not targets:
        problems.append(Problem("workflow", "the workflow has no output node: nothing would come out of it"))
    order: list[str] = []
    try:
        order = execution_order(prompt, targets)
    except WorkflowError as error:
        problems.append(Problem("workflow", str(error)))
    for node in order or prompt:
        if prompt[node]["class_type"] not in missing:
            problems += _of_node(prompt, node, known, folders)
    return Checked(tuple(problems), tuple(notes), len(order))


def _opened(document: Mapping, specs: Specs, notes: list[str]) -> tuple[Prompt, Specs, set[str], Mapping]:
    """The API form, the specs, and the classes without one, whose place is taken by what the canvas knows of them."""
    try:
        prompt, shown = opened(document, specs, notes)
        missing = {found["class_type"] for found in prompt.values() if specs(found["class_type"]) is None}
    except WorkflowError:
        if not is_canvas(document):
            raise
        missing = {name for name in class_names(document) if specs(name) is None} - VIRTUAL
        if not missing:
            raise
    guessed = {name: _guessed(document, name) for name in missing}

    def known(name: str) -> Spec | None:
        return guessed.get(name) or specs(name)

    if missing:
        notes.clear()
        prompt, shown = opened(document, known, notes)
    return prompt, known, missing, shown


def _guessed(document: Mapping, name: str) -> Spec:
    """A spec for a class that is not there, with the sockets that the canvas saved, if any."""
    inputs: dict[str, Input] = {}
    outputs: tuple[str, ...] = ()
    for node in _nodes(document):
        if node.get("type") != name:
            continue
        for slot in _tables(node.get("inputs")):
            if not slot.get("widget"):
                inputs[str(slot.get("name"))] = Input(ANY, None, {"forceInput": True}, False)
        outputs = tuple(str(slot.get("type") or ANY) for slot in _tables(node.get("outputs")))
    return Spec(inputs, outputs or (ANY,) * 100, True)


def _nodes(document: Mapping) -> Iterator[Mapping]:
    waiting: list[Mapping] = [document]
    while waiting:
        place = waiting.pop()
        yield from _tables(place.get("nodes"))
        definitions = place.get("definitions")
        waiting += _tables(definitions.get("subgraphs")) if isinstance(definitions, Mapping) else []


def _tables(listed: object) -> list[Mapping]:
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def _missing_class(prompt: Prompt, node: str) -> Problem:
    return _problem("node", prompt, node, "its class is not there; install the pack that has it")


def _problem(kind: str, prompt: Prompt, node: str, sentence: str, name: str = "", near: Sequence[str] = ()) -> Problem:
    found = prompt[node]
    title = str((found.get("_meta") or {}).get("title") or "")
    sentence = f"{label(prompt, node)}: {sentence}"
    return Problem(kind, sentence, node, title, found["class_type"], name, tuple(near))


def _of_node(prompt: Prompt, node: str, specs: Specs, folders: Folders) -> Iterator[Problem]:
    found = prompt[node]
    spec = spec_of(specs, found["class_type"])
    declared, validates = all_inputs(spec, found["inputs"]), spec.validates
    for name, wanted in declared.items():
        if name not in found["inputs"]:
            if wanted.required and not wanted.kind.startswith("COMFY_"):
                sentence = f"its input {name!r} ({wanted.kind}) is missing; link it or give it a value"
                yield _problem("input", prompt, node, sentence, name)
            continue
        value = found["inputs"][name]
        link = link_of(value)
        if link is not None and not wanted.options.get("rawLink"):
            sentence = "" if "input_types" in validates else _link_sentence(prompt, link, name, wanted, specs)
            if sentence:
                yield _problem("link", prompt, node, sentence, name)
        elif wanted.takes_file and isinstance(value, str):
            if folders.find(value) is None and value not in (wanted.choices or (value,)):
                near = _nearest(value, wanted.choices or ())
                sentence = f"its input {name!r}: there is no file {value!r}{_told(near)}"
                yield _problem("file", prompt, node, sentence, name, near)
        else:
            problem = _of_value(prompt, node, name, wanted, bounds=not {name, None} & validates)
            if problem is not None:
                yield problem


def _of_value(prompt: Prompt, node: str, name: str, wanted: Input, *, bounds: bool) -> Problem | None:
    value = prompt[node]["inputs"][name]
    try:
        typed(wanted, value, bounds=bounds)
    except ValueError as error:
        if wanted.choices is not None and isinstance(value, str) and value.lower().endswith(_MODELS):
            near = _nearest(value, wanted.choices)
            sentence = f"its input {name!r}: there is no model {value!r}{_told(near)}"
            return _problem("model", prompt, node, sentence, name, near)
        near = _nearest(str(value), wanted.choices or ())
        return _problem("value", prompt, node, f"its input {name!r}: {error}", name, near)
    return None


def _link_sentence(prompt: Prompt, link: tuple[str, int], name: str, wanted: Input, specs: Specs) -> str:
    if link[0] not in prompt:
        return ""  # the order of execution has told of it
    spec = spec_of(specs, prompt[link[0]]["class_type"])
    if not 0 <= link[1] < len(spec.outputs):
        return f"its input {name!r} is linked to output {link[1]} of {label(prompt, link[0])}, which has fewer"
    given = spec.outputs[link[1]]
    if given.startswith("COMFY_") or wanted.kind.startswith("COMFY_") or fits(given, wanted.kind):
        return ""
    return f"its input {name!r} wants {wanted.kind} and is linked to {given} from {label(prompt, link[0])}"


def _nearest(name: str, choices: Sequence[object]) -> list[str]:
    """The choices most like a name: the same file in another folder first, then what is spelled like it."""
    texts = [str(choice) for choice in choices]
    bare = {text: PurePosixPath(text.replace("\\", "/")).stem.lower() for text in texts}
    wanted = PurePosixPath(name.replace("\\", "/")).stem.lower()
    same = [text for text in texts if bare[text] == wanted]
    like = difflib.get_close_matches(wanted, bare.values(), _NEAR, 0.5)
    return list(dict.fromkeys([*same, *(text for one in like for text in texts if bare[text] == one)]))[:_NEAR]


def _told(near: Sequence[str]) -> str:
    return f"; near are {', '.join(near)}" if near else ""
