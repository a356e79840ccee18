"""Everything wrong with a workflow, found before the first node runs (ComfyUI: execution.py, validate_inputs)."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping

from .graph import (
    ANY,
    Input,
    NodeClass,
    Prompt,
    Spec,
    Specs,
    WorkflowError,
    execution_order,
    label,
    link_of,
    spec_of,
    unknown_nodes,
)

_EXACT = 2**53  # up to here a number with a fraction or an exponent is told exactly


def checked(prompt: Prompt, specs: Specs, classes: Mapping[str, NodeClass]) -> tuple[Prompt, list[str]]:
    """The prompt with values in their declared types, and the order of execution of what leads to an output node.

    Raises:
        WorkflowError: all problems, one after the other, each naming its node.
    """
    unknown = [label(prompt, node) for node, found in prompt.items() if specs(found["class_type"]) is None]
    if unknown:
        raise unknown_nodes(unknown)
    targets = [node for node, found in prompt.items() if spec_of(specs, found["class_type"]).output_node]
    if not targets:
        raise WorkflowError(
            "the workflow has no output node (SaveImage, PreviewImage, PreviewAny, ...): nothing would come out of it"
        )
    order = execution_order(prompt, targets)
    problems: list[str] = []
    result: Prompt = {}
    for node in order:
        found = prompt[node]
        own = f"{label(prompt, node)}: "
        inputs, wrong = _checked_inputs(prompt, node, specs)
        if not wrong:
            wrong = _asked(classes[found["class_type"]], spec_of(specs, found["class_type"]), inputs, prompt, specs)
        problems += [own + sentence for sentence in wrong]
        result[node] = {**found, "inputs": inputs}
    if problems:
        raise WorkflowError("; ".join(problems))
    return result, order


def typed(found: Input, value: object, *, bounds: bool = True) -> object:
    """The value in the input's declared type.

    Raises:
        ValueError: a sentence on what was expected; out of range; not one of the choices.
    """
    if isinstance(value, Mapping) and "__value__" in value:
        value = value["__value__"]
    if found.kind == "INT":
        value = _whole(value)
    elif found.kind == "FLOAT":
        value = _number(value)
    elif found.kind == "BOOLEAN":
        value = _truth(value)
    elif found.kind == "STRING":
        if isinstance(value, (Mapping, list)) or value is None:
            raise ValueError(f"a text was expected, and this is {_short(value)}")
        value = str(value)
    if not bounds:
        return value
    if found.kind == "COMBO" and found.choices is not None and not isinstance(value, list):
        _check_choice(found.choices, value)
    if isinstance(value, (int, float)) and found.kind in ("INT", "FLOAT"):
        _check_range(found, value)
    return value


def _checked_inputs(prompt: Prompt, node: str, specs: Specs) -> tuple[dict, list[str]]:
    """The inputs that the class declares, typed, and the sentences on those that are wrong."""
    spec, given = spec_of(specs, prompt[node]["class_type"]), prompt[node]["inputs"]
    asks = spec.validates
    inputs: dict[str, object] = {}
    wrong: list[str] = []
    for name, found in spec.inputs.items():
        if name not in given:
            if found.required:
                wrong.append(f"its input {name!r} ({found.kind}) is missing; link it or give it a value")
            continue
        link = link_of(given[name])
        if link is not None and not found.options.get("rawLink"):
            inputs[name] = [link[0], link[1]]
            sentence = None if "input_types" in asks else _link_problem(prompt, link, name, found, specs)
            wrong += [sentence] if sentence else []
            continue
        try:
            inputs[name] = typed(found, given[name], bounds=name not in asks and None not in asks)
        except ValueError as error:
            wrong.append(f"its input {name!r}: {error}")
    for name in given:
        if name not in spec.inputs:
            near = difflib.get_close_matches(name, spec.inputs, 1)
            if near and near[0] not in given:
                wrong.append(f"it has no input {name!r}; did you mean {near[0]!r}?")
    return inputs, wrong


def _link_problem(prompt: Prompt, link: tuple[str, int], name: str, found: Input, specs: Specs) -> str | None:
    outputs = spec_of(specs, prompt[link[0]]["class_type"]).outputs
    if not 0 <= link[1] < len(outputs):
        return (
            f"its input {name!r} is linked to output {link[1]} of {label(prompt, link[0])}, which has "
            f"{len(outputs)} outputs"
        )
    if not fits(outputs[link[1]], found.kind):
        return (
            f"its input {name!r} wants {found.kind} and is linked to {outputs[link[1]]} from {label(prompt, link[0])}"
        )
    return None


def fits(given: str, wanted: str) -> bool:
    """Whether an output of one type may feed an input of another; "A,B" is a union."""
    if ANY in (given, wanted) or given == wanted:
        return True
    return bool({kind.strip() for kind in given.split(",")} & {kind.strip() for kind in wanted.split(",")})


def _asked(node_class: NodeClass, known: Spec, inputs: dict, prompt: Prompt, specs: Specs) -> list[str]:
    """What the class's own VALIDATE_INPUTS says about constants; linked inputs are None to it."""
    names, ask = known.validates, getattr(node_class, "VALIDATE_INPUTS", None)
    if not names or ask is None:
        return []
    arguments = {
        name: None if link_of(value) else value for name, value in inputs.items() if name in names or None in names
    }
    arguments |= {name: None for name in known.inputs if name in names and name not in inputs}
    if "input_types" in names:
        links = {name: link_of(value) for name, value in inputs.items()}
        arguments["input_types"] = {
            name: spec_of(specs, prompt[link[0]]["class_type"]).outputs[link[1]] for name, link in links.items() if link
        }
    answer = ask(**arguments)
    if answer is True:
        return []
    return [answer if isinstance(answer, str) else "its inputs are refused by the class"]


def _whole(value: object) -> int:
    number = _number(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)
    if isinstance(value, str) and abs(number) > _EXACT:
        raise ValueError(f"a whole number was expected, and {_short(value)} is a rounded one; write all its digits")
    if number != math.floor(number):
        raise ValueError(f"a whole number was expected, and this is {_short(value)}")
    return int(number)


def _number(value: object) -> float:
    try:
        if isinstance(value, (int, float, str)):
            number = float(value)
            if math.isfinite(number):
                return number
    except (ValueError, OverflowError):
        pass  # the sentence below says it
    raise ValueError(f"a number was expected, and this is {_short(value)}")


def _truth(value: object) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0"):
        return value.strip().lower() in ("true", "1")
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    raise ValueError(f"true or false was expected, and this is {_short(value)}")


def _check_range(found: Input, value: float) -> None:
    low, high = found.options.get("min"), found.options.get("max")
    below = isinstance(low, (int, float)) and value < low
    if below or isinstance(high, (int, float)) and value > high:
        raise ValueError(f"{value} is out of range, {low} to {high}")


def _check_choice(choices: tuple, value: object) -> None:
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], 3, 0.5)
    shown = near or [str(choice) for choice in choices[:8]]
    more = f" and {len(choices) - len(shown)} more" if not near and len(choices) > len(shown) else ""
    raise ValueError(
        f"{_short(value)} is not one of its choices; "
        + (f"{'near are' if near else 'they are'} {', '.join(shown)}{more}" if choices else "it has none")
    )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"
