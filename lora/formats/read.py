"""Reading: the tensors of a LoRA file of any dialect become adapters, and the rest is listed with reasons.

A module is read whole or not at all: if a part of it is unknown, contradictory or not a number, the module is in
`unread` with the reason. The grammar of names is in suffixes.py, the kinds are in kinds/table.py, the scale of PEFT
files is in adapter_config.py; writing.py is the opposite direction.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from ..kinds.adapters import Adapter, ConfigFacts, LoRAError
from ..kinds.table import KINDS
from ..kinds.whole import Replacement
from .adapter_config import alpha_of, configurations, scales_inputs, terms_of
from .building import build, fault_of
from .suffixes import ALPHA, DORA, MAGNITUDE, SCALE, ParsedName, grammar, parse, role_of_own_weight
from .writing import write as write

_NOT_YET = "{}: this kind is not read"
_NOT_JSON = "the header's {} is not a JSON object; this file does not need it"
_NUMBERED_CLASSES = {  # cloneofsimo's default choice of layers, the only one whose numbering is known
    "unet": {"CrossAttention", "Attention", "GEGLU"},
    "text_encoder": {"CLIPAttention"},
}
_PEFT = "base_model.model."
_MOST_SCALE = 10_000


@dataclass(frozen=True)
class LoRAFile:
    """The contents of a LoRA file.

    adapters: module name as in the file -> adapter; a name that ends in ".bias" is the change of that module's bias.
    unread: name -> the reason why it was not read. notes: remarks about the whole file. embeddings: token -> the
    vectors of a learned word. kinds: kind -> its number of adapters.
    """

    dialect: str
    adapters: dict[str, Adapter]
    unread: dict[str, str]
    notes: tuple[str, ...]
    embeddings: dict[str, Tensor]
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass
class _Module:
    """The tensors of one module, by role; `fault` is the reason why the module cannot be read."""

    tensors: dict[str, Tensor]
    dialect: str = ""
    adapter: str = ""
    fault: str = ""


def read(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    adapter_config: Mapping[str, object] | None = None,
    *,
    largest: float = math.inf,
) -> LoRAFile:
    """Read the adapters in a file's tensors, whatever tool wrote them.

    The scale is that of an alpha in the file, else that of the configuration, else 1.

    Args:
        tensors: the file's tensors by name; they are not copied.
        metadata: the texts of the file's header.
        adapter_config: the parsed adapter_config.json of a PEFT folder, which holds the scale.
        largest: a bound on the numbers of the tensors, none of which is NaN, if the caller knows one. Below it the
            values are not checked again.

    Returns:
        The adapters by module name, and the modules that were not read with the reasons.

    Raises:
        LoRAError: no tensor looks like a LoRA of any kind, or the configuration cannot be read.

    >>> import torch
    >>> name = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    >>> tensors = {f"{name}.lora_up.weight": torch.ones(8, 2), f"{name}.lora_down.weight": torch.ones(2, 4)}
    >>> file = read({**tensors, f"{name}.alpha": torch.tensor(1.0), "other.hada_t1": torch.ones(2, 2, 3, 3)})
    >>> file.dialect, file.kinds, file.adapters[name].scale
    ('kohya', {'LoRA': 1}, 0.5)
    >>> file.unread
    {'other': 'it has hada_t1 but no hada_w1_a and no hada_w1_b and no hada_w2_a and no hada_w2_b'}
    """
    metadata = metadata or {}
    words = {name for name in tensors if metadata.get(name) == "<embed>"}
    modules, strays = _gather({name: tensor for name, tensor in tensors.items() if name not in words})
    if not modules and not words:
        raise _no_lora(tensors)
    configs, broken = configurations(metadata, adapter_config)
    _check_that_none_needs(broken, modules)
    unread = {name: fault for name in sorted(words) if (fault := fault_of(tensors[name]))}
    adapters: dict[str, Adapter] = {}
    without_alpha: list[str] = []
    for name, tensor in strays.items():
        _read_stray(name, tensor, adapters, unread)
    for name, module in modules.items():
        try:
            _read_module(name, module, configs, metadata, adapters, without_alpha, largest)
        except LoRAError as error:
            unread[name] = str(error)
    dialect = _dialect([module.dialect for module in modules.values() if module.dialect], modules)
    kinds = Counter(adapter.kind for adapter in adapters.values())
    return LoRAFile(
        dialect,
        adapters,
        unread,
        _notes(adapters, without_alpha, dialect, broken),
        {name: tensors[name] for name in sorted(words - unread.keys())},
        dict(kinds),
    )


def _needs_configuration(module: _Module) -> bool:
    """Whether the scale of a module, or what it does, stands in PEFT's configuration and not beside its tensors."""
    of_peft = {role for kind in KINDS.values() if kind.by_peft for role in kind.fields}
    by_peft = module.dialect in ("diffusers", "peft") or not of_peft.isdisjoint(module.tensors)
    return by_peft and not module.tensors.keys() & {ALPHA, SCALE}


def _check_that_none_needs(header: str, modules: Mapping[str, _Module]) -> None:
    """Refuse a file one of whose modules needs the configuration in this entry of the header, which is no JSON."""
    if header and any(_needs_configuration(module) for module in modules.values()):
        raise LoRAError(
            f"the header's {header} is not a JSON object, so the scale is unknown: "
            "give the adapter_config.json that came with the file"
        )


def _no_lora(tensors: Mapping[str, Tensor]) -> LoRAError:
    shown = ", ".join(sorted(tensors)[:3]) or "nothing"
    return LoRAError(
        f"no LoRA tensors here: expected names that end in lora_up.weight, lora_A.weight or the like, "
        f"the file has {len(tensors)} tensors: {shown}"
    )


def _gather(tensors: Mapping[str, Tensor]) -> tuple[dict[str, _Module], dict[str, Tensor]]:
    """The modules with their parts, and the tensors that belong to no module."""
    # Names that the grammar knows make the modules.
    modules: dict[str, _Module] = {}
    unknown, known = [], grammar()
    for name in sorted(tensors):
        part = parse(name, known)
        if part is None:
            unknown.append(name)
            continue
        module = modules.setdefault(part.module, _Module({}))
        _put(module, part, tensors[name])
    # Of the other names, those inside a module are a part that it must not lose; the rest are strays.
    strays = {}
    for name in unknown:
        owner = name
        while owner and owner not in modules:
            owner = owner.rpartition(".")[0]
        own = role_of_own_weight(modules[owner].tensors) if owner and name == f"{owner}.weight" else None
        if own:
            modules[owner].tensors[own] = tensors[name]  # LyCORIS' (IA)^3 calls its factors .weight
        elif owner:
            modules[owner].fault = modules[owner].fault or f"it has {name}, which would be ignored"
        else:
            strays[name] = tensors[name]
    return modules, strays


def _put(module: _Module, part: ParsedName, tensor: Tensor) -> None:
    """Adds a tensor to its module, or the fault that it makes."""
    if part.kind:
        module.fault = _NOT_YET.format(part.kind)
        return
    if part.role in module.tensors or (part.adapter and module.adapter and part.adapter != module.adapter):
        module.fault = module.fault or "it has two adapters in one file, and which one is meant is unknown"
    elif part.dialect and module.dialect and part.dialect != module.dialect:
        module.fault = module.fault or f"its parts are in two dialects, {module.dialect} and {part.dialect}"
    module.tensors[part.role] = tensor
    module.dialect = module.dialect or part.dialect
    module.adapter = module.adapter or part.adapter


def _read_stray(name: str, tensor: Tensor, adapters: dict[str, Adapter], unread: dict[str, str]) -> None:
    """Adds a tensor outside all modules: a whole parameter of PEFT (modules_to_save, bias="all"), else unread."""
    whole = name.endswith((".weight", ".bias"))
    if not (whole and name.startswith(_PEFT)):
        unread[name] = "a whole parameter, not an adapter" if whole else "not a tensor of any known adapter"
    elif fault := fault_of(tensor):
        unread[name] = fault
    else:
        plain = name.replace(".modules_to_save.default", "").replace(".base_layer.", ".")
        adapters[plain.removesuffix(".weight")] = Replacement(tensor)


def _read_module(
    name: str,
    module: _Module,
    configs: Mapping[str, Mapping[str, object]],
    metadata: Mapping[str, str],
    adapters: dict[str, Adapter],
    without_alpha: list[str],
    largest: float,
) -> None:
    """Adds the adapters of one module; LoRAError with the reason where it has none."""
    if module.fault:
        raise LoRAError(module.fault)
    dora = bool(module.tensors.keys() & {DORA, MAGNITUDE})
    of_rank = partial(alpha_of, configs, name, dora=dora)
    facts = ConfigFacts(of_rank, terms_of(configs, name), scales_inputs(configs, name), largest)
    found, has_alpha = build(name, module.tensors, facts)
    if module.dialect == "cloneofsimo":
        _check_numbering(name, found[""].rank, metadata)
    names = {suffix: name + suffix for suffix in found}
    if twice := [full for suffix, full in names.items() if full in adapters]:
        raise LoRAError(f"{twice[0]} is changed twice in this file, and which one is meant is unknown")
    adapters.update({names[suffix]: adapter for suffix, adapter in found.items()})
    without_alpha += [] if has_alpha else [name]


def _check_numbering(name: str, rank: int, metadata: Mapping[str, str]) -> None:
    """Refuse cloneofsimo's numbers for any but the default choice of layers, which the header records."""
    part = name.partition(":")[0]
    try:
        classes = json.loads(metadata.get(part, "null"))
    except (ValueError, RecursionError):
        classes = "unreadable"
    named = isinstance(classes, list) and all(isinstance(c, str) for c in classes)
    if classes is not None and (not named or set(classes) != _NUMBERED_CLASSES[part]):
        raise LoRAError(f"its number counts the layers of {str(classes)[:120]}: only the default choice is known")
    written = metadata.get(f"{name}:rank")
    if written is not None and written != str(rank):
        raise LoRAError(f"the header says rank {written[:20]}, its tensors have rank {rank}")


def _notes(adapters: Mapping[str, Adapter], without_alpha: list[str], dialect: str, broken: str) -> tuple[str, ...]:
    """The remarks about a missing, zero or impossible alpha, and about an entry of the header that is no JSON."""
    notes = [_NOT_JSON.format(broken)] if broken else []
    if without_alpha and dialect == "peft":
        notes.append(
            f"{len(without_alpha)} modules have no alpha and no adapter_config.json: "
            "their scale is unknown and 1 was used"
        )
    if without_alpha and dialect in ("kohya", "lycoris", "onetrainer"):
        notes.append(f"{len(without_alpha)} modules have no alpha: scale 1, as this dialect means it")
    if still := [name for name, adapter in adapters.items() if adapter.rank and adapter.alpha == 0]:
        notes.append(f"{len(still)} modules have alpha 0 and change nothing, {still[0]} is the first")
    if huge := [
        name
        for name, adapter in adapters.items()
        if adapter.rank and abs(adapter.alpha or 0.0) > _MOST_SCALE * adapter.rank
    ]:
        notes.append(
            f"{len(huge)} modules have an alpha of more than {_MOST_SCALE} times their rank, which no trainer "
            f"writes: the file is damaged or made to do harm; {huge[0]} is the first"
        )
    return tuple(notes)


def _dialect(dialects: list[str], modules: Mapping[str, _Module]) -> str:
    """The most common dialect of the suffixes; the modules' names tell other tools that use kohya's suffixes."""
    first = next(iter(modules), "")
    if not dialects:
        return "unknown" if not first else "peft" if _PEFT in first else "diffusers" if "." in first else "kohya"
    common = Counter(dialects).most_common(1)[0][0]
    if common == "kohya":
        for prefix, dialect in (("lycoris_", "lycoris"), ("lora_transformer_", "onetrainer")):
            if first.startswith(prefix):
                return dialect
    return common
