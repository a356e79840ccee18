"""Where the adapters of a file belong in a model, and which of them have no place there."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from .adapters import LoRA
from .formats import LoRAFile
from .names import name_map

_NEIGHBOURS, _MAX_CHARS = 5, 300


@dataclass(frozen=True)
class Match:
    """found: model key -> adapter; homeless: module -> the model's nearest key; misfit: module -> why not, in words.

    Every adapter of the file is in exactly one of the three.
    """

    found: dict[str, LoRA]
    homeless: dict[str, str]
    misfit: dict[str, str]


def match(file: LoRAFile, shapes: Mapping[str, Sequence[int]]) -> Match:
    """Each adapter of the file to its weight, by the names and shapes of the model's state dict.

    Two modules of the file that mean one weight are both misfits: which of them was meant is unknown.
    """
    names = name_map(shapes)
    owners: dict[str, list[str]] = {}
    homeless_modules = []
    for module in file.adapters:
        if key := names.get(module):
            owners.setdefault(key, []).append(module)
        else:
            homeless_modules.append(module)
    found, misfit = {}, {}
    for key, modules in owners.items():
        if len(modules) > 1:
            misfit |= {module: f"{' and '.join(modules)} both change {key}: only one may" for module in modules}
        elif reason := file.adapters[modules[0]].misfit(shapes[key]):
            misfit[modules[0]] = f"{key}: {reason}"
        else:
            found[key] = file.adapters[modules[0]]
    return Match(found, _nearest(homeless_modules, names), misfit)


def _nearest(modules: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """module -> the key whose spelling is most like it; "" for a model without keys.

    Comparing with every spelling takes minutes for a file of another model, so only the names around its place in the
    alphabet are compared, reading from the front and from the back.
    """
    forward = sorted(names)
    backward = sorted(name[::-1] for name in names)
    nearest = {}
    for module in modules:
        name = module[:_MAX_CHARS]
        near = _around(forward, name) + [other[::-1] for other in _around(backward, name[::-1])]
        best = max(near, key=lambda other: SequenceMatcher(None, name, other, autojunk=False).ratio(), default="")
        nearest[module] = names.get(best, "")
    return nearest


def _around(ordered: list[str], name: str) -> list[str]:
    place = bisect_left(ordered, name)
    return ordered[max(0, place - _NEIGHBOURS):place + _NEIGHBOURS]
