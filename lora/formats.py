"""LoRA files of every dialect to adapters, with what was not understood, and back to a standard file.

A module is taken whole or not at all: where a part of it is unknown, contradictory or not a number, the module is in
`unread` with the reason. The grammar of names is in suffixes.py, the scale of PEFT files in adapter_config.py.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .adapter_config import alpha_of, configurations, describe
from .adapters import LoRA, LoRAError
from .names import DIALECTS
from .suffixes import ALPHA, DOWN, MID, SCALE, UP, Part, parse

_NOT_YET = "{}: only plain LoRA and LoCon are read"
_NUMBERED_CLASSES = {  # cloneofsimo's default choice of layers, the only one whose numbering is known
    "unet": {"CrossAttention", "Attention", "GEGLU"}, "text_encoder": {"CLIPAttention"},
}
_NAMES = {  # dialect: down, up
    "kohya": (".lora_down.weight", ".lora_up.weight"),
    "diffusers": (".lora_A.weight", ".lora_B.weight"),
    "peft": (".lora_A.weight", ".lora_B.weight"),
}


@dataclass(frozen=True)
class LoRAFile:
    """What a file holds: adapters and what was left out by module name as in the file, learned words by token."""

    dialect: str
    adapters: dict[str, LoRA]
    unread: dict[str, str]
    notes: tuple[str, ...]
    embeddings: dict[str, Tensor]


@dataclass
class _Module:
    """The tensors of one module while they are gathered; `fault` is why it cannot be read."""

    tensors: dict[str, Tensor]
    dialect: str = ""
    adapter: str = ""
    fault: str = ""


def read(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None,
         adapter_config: Mapping[str, object] | None = None) -> LoRAFile:
    """The adapters in a file's tensors, whatever tool wrote them.

    `metadata` is the header's; `adapter_config` the parsed adapter_config.json of a PEFT folder, which holds the scale.
    An alpha in the file comes first, then the configuration, then scale 1.

    Raises:
        LoRAError: nothing in it looks like a LoRA of any kind, or its configuration cannot be read.
    """
    metadata = metadata or {}
    words = {name for name in tensors if metadata.get(name) == "<embed>"}
    modules, strays = _gather({name: tensor for name, tensor in tensors.items() if name not in words})
    if not modules and not words:
        shown = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise LoRAError(f"no LoRA tensors here: expected names that end in lora_up.weight, lora_A.weight or the like, "
                        f"the file has {len(tensors)} tensors: {shown}")
    configs = configurations(metadata, adapter_config)
    unread = {name: "a whole parameter, not an adapter" if name.endswith((".weight", ".bias"))
              else "not a tensor of any known adapter" for name in strays}
    unread |= {name: fault for name in sorted(words) if (fault := _fault_of(tensors[name]))}
    adapters, without_alpha = {}, []
    for name, module in modules.items():
        try:
            adapters[name], has_alpha = _build(name, module, configs, metadata)
        except LoRAError as error:
            unread[name] = str(error)
        else:
            without_alpha += [] if has_alpha else [name]
    dialect = _most_common([module.dialect for module in modules.values() if module.dialect])
    notes = _notes(adapters, without_alpha, dialect)
    return LoRAFile(dialect, adapters, unread, notes, {name: tensors[name] for name in sorted(words - unread.keys())})


def write(adapters: Mapping[str, LoRA], dialect: str,
          metadata: Mapping[str, str] | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a standard file. Names are written as given: take them from `names.spellings`.

    "kohya": with .alpha, read by everything. "diffusers": has no place for alpha, so the scale is multiplied into up.
    "peft": the configuration is in the header's `adapter_config`; PEFT itself wants it as adapter_config.json.

    Raises:
        LoRAError: nothing to write, an unknown dialect, or what the dialect cannot say.
    """
    if dialect not in DIALECTS:
        raise LoRAError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    header = {"format": "pt", **(metadata or {})}
    if odd := next((key for key, value in header.items() if not isinstance(value, str)), None):
        raise LoRAError(f"the metadata's {odd} is {type(header[odd]).__name__}: a file's header holds text only")
    if not adapters:
        raise LoRAError("there are no adapters to write")
    down, up = _NAMES[dialect]
    tensors = {}
    for name, adapter in adapters.items():
        if dialect != "kohya" and adapter.mid is not None:
            raise LoRAError(f"{name} has a middle tensor, which {dialect} files cannot hold: write it as kohya")
        if dialect == "peft" and "base_model.model." not in name:
            raise LoRAError(f"{name} has no base_model.model. before it, so PEFT would not find it: "
                            "take the names from spellings(keys, \"peft\")")
        tensors[name + down] = adapter.down.contiguous()
        tensors[name + up] = (_scaled_up(adapter) if dialect == "diffusers" else adapter.up).contiguous()
        if adapter.mid is not None:
            tensors[name + ".lora_mid.weight"] = adapter.mid.contiguous()
        if dialect == "kohya":
            tensors[name + ".alpha"] = _alpha_tensor(adapter.alpha)
    if dialect == "kohya":
        header = _kohya_header(adapters) | header
    if dialect == "peft":
        header["adapter_config"] = json.dumps(describe(adapters))
    return tensors, header


def _gather(tensors: Mapping[str, Tensor]) -> tuple[dict[str, _Module], list[str]]:
    """Modules with their parts, and the names that belong to none."""
    modules: dict[str, _Module] = {}
    unknown = []
    for name in sorted(tensors):
        part = parse(name)
        if part is None:
            unknown.append(name)
            continue
        module = modules.setdefault(part.module, _Module({}))
        _put(module, part, tensors[name])
    strays = []
    for name in unknown:
        owner = name
        while owner and owner not in modules:
            owner = owner.rpartition(".")[0]
        if owner:
            modules[owner].fault = modules[owner].fault or f"it has {name}, which would be ignored"
        else:
            strays.append(name)
    return modules, strays


def _put(module: _Module, part: Part, tensor: Tensor) -> None:
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


def _build(name: str, module: _Module, configs: Mapping[str, Mapping[str, object]],
           metadata: Mapping[str, str]) -> tuple[LoRA, bool]:
    """One module's adapter, and whether the file says its alpha; LoRAError with the reason where there is none."""
    if module.fault:
        raise LoRAError(module.fault)
    parts = module.tensors
    if absent := [role for role in (DOWN, UP) if role not in parts]:
        raise LoRAError(f"it has {' and '.join(sorted(parts))} but no {' and no '.join(absent)}")
    for role, tensor in parts.items():
        if fault := _fault_of(tensor):
            raise LoRAError(f"its {role}: {fault}")
        if role in (ALPHA, SCALE) and tensor.numel() != 1:
            raise LoRAError(f"its {role} has {tensor.numel()} values, expected one number")
    lora = LoRA(parts[UP], parts[DOWN], 1.0, parts.get(MID))
    if module.dialect == "cloneofsimo":
        _check_numbering(name, lora.rank, metadata)
    if SCALE in parts:  # A1111: the scale itself, whatever alpha says
        alpha = parts[SCALE].item() * lora.rank
    else:
        alpha = parts[ALPHA].item() if ALPHA in parts else alpha_of(configs, name, lora.rank)
    return replace(lora, alpha=float(lora.rank if alpha is None else alpha)), alpha is not None


def _fault_of(tensor: Tensor) -> str:
    if not tensor.is_floating_point():
        return f"{str(tensor.dtype).removeprefix('torch.')} numbers, expected floating point"
    return "" if torch.isfinite(tensor.float()).all() else "it holds NaN or infinity"


def _check_numbering(name: str, rank: int, metadata: Mapping[str, str]) -> None:
    """cloneofsimo's numbers mean layers only for the default choice of layers, which its header records."""
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


def _notes(adapters: Mapping[str, LoRA], without_alpha: list[str], dialect: str) -> tuple[str, ...]:
    notes = []
    if without_alpha and dialect == "peft":
        notes.append(f"{len(without_alpha)} modules have no alpha and no adapter_config.json: "
                     "their scale is unknown and 1 was used")
    if without_alpha and dialect == "kohya":
        notes.append(f"{len(without_alpha)} modules have no alpha: scale 1, as this dialect means it")
    if still := [name for name, adapter in adapters.items() if adapter.alpha == 0]:
        notes.append(f"{len(still)} modules have alpha 0 and change nothing, {still[0]} is the first")
    return tuple(notes)


def _most_common(dialects: list[str]) -> str:
    return Counter(dialects).most_common(1)[0][0] if dialects else "unknown"


def _scaled_up(adapter: LoRA) -> Tensor:
    """up times the scale, in its own dtype where that is exact and in fp32 where not."""
    scaled = adapter.up.float() * adapter.scale
    own = scaled.to(adapter.up.dtype)
    return own if torch.equal(own.float(), scaled) else scaled


def _alpha_tensor(alpha: float) -> Tensor:
    single = torch.tensor(alpha, dtype=torch.float32)
    return single if single.item() == alpha else torch.tensor(alpha, dtype=torch.float64)


def _kohya_header(adapters: Mapping[str, LoRA]) -> dict[str, str]:
    """What sd-scripts records about the adapters themselves; the trainer adds the rest."""
    ranks, alphas = {a.rank for a in adapters.values()}, {a.alpha for a in adapters.values()}
    lycoris = any(a.mid is not None for a in adapters.values())
    header = {"ss_network_module": "lycoris.kohya" if lycoris else "networks.lora",
              "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
              "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic"}
    return header | ({"ss_network_args": json.dumps({"algo": "locon", "use_tucker": "True"})} if lycoris else {})
