"""PEFT's adapter_config.json: the scale and the variant of adapters, which their tensors do not hold; read and written.

Sources: peft's LoraConfig (lora_alpha, r, rank_pattern, alpha_pattern, use_rslora), and `lora_adapter_metadata`, which
diffusers puts into a file's header with the component's name before every field. Both are untrusted text.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping

from ..kinds.adapters import LoRA, LoRAError
from ..kinds.magnitude import DoRA

_PREFIX = "base_model.model."
_HEADER_KEYS = ("adapter_config", "lora_adapter_metadata")  # ours and diffusers'
_MAX_CHARS, _MAX_NAME = 4_000_000, 500


def configurations(
    metadata: Mapping[str, str], given: Mapping[str, object] | None
) -> tuple[dict[str, dict[str, object]], str]:
    """The LoraConfig fields of each component ("unet", "text_encoder", or "" for the whole file), empty without any;
    and the header's name of one that cannot be read, which only matters to a file that needs it, or "".
    """
    if given is not None:
        return {"": dict(given)}, ""
    found: dict[str, dict[str, object]] = {}
    broken = ""
    for header in _HEADER_KEYS:
        fields = _parse(metadata, header)
        broken = broken or (header if fields is None else "")
        for field, value in (fields or {}).items():
            component, _, plain = field.rpartition(".")
            found.setdefault(component, {})[plain] = value
    return found, broken


def alpha_of(
    configs: Mapping[str, Mapping[str, object]], module: str, rank: int, *, dora: bool = False
) -> float | None:
    """The alpha that gives a module PEFT's scale when divided by its rank; None where no configuration covers it.

    `dora`: the module has a magnitude vector.

    Raises:
        LoRAError: the configuration contradicts the tensors, is for another kind of adapter, or is malformed.
    """
    component, config = _config_of(configs, module)
    if config is None:
        return None
    path = module.removeprefix(component + ".") if component else module
    path = path.rpartition(_PREFIX)[2]
    if config.get("use_dora") and not dora:
        raise LoRAError("its configuration says DoRA (use_dora), but there is no magnitude vector")
    expected = _number(_pattern(config, "rank_pattern", path, config.get("r")), "r")
    if expected is not None and expected != rank:
        raise LoRAError(f"its configuration says rank {expected:g}, its tensors have rank {rank}")
    alpha = _number(_pattern(config, "alpha_pattern", path, config.get("lora_alpha")), "lora_alpha")
    if alpha is None:
        raise LoRAError("its configuration has no lora_alpha, so its scale is unknown")
    return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def terms_of(configs: Mapping[str, Mapping[str, object]], module: str) -> int | None:
    """The number of terms in PEFT's Neumann series of a module's OFT rotation; None for the exact Cayley transform.

    Raises:
        LoRAError: the configuration is malformed.
    """
    config = _config_of(configs, module)[1] or {}
    if not config.get("use_cayley_neumann", True):
        return None
    terms = _number(config.get("num_cayley_neumann_terms", 5), "num_cayley_neumann_terms")
    return 5 if terms is None else int(terms)


def scales_inputs(configs: Mapping[str, Mapping[str, object]], module: str) -> bool | None:
    """Whether PEFT's (IA)^3 scales a module's inputs (feedforward_modules) or outputs; None without a configuration."""
    config = _config_of(configs, module)[1] or {}
    listed = config.get("feedforward_modules")
    if config.get("peft_type") != "IA3" or not isinstance(listed, list | tuple | set):
        return None
    return any(module.endswith(str(ending)) for ending in listed)


def _config_of(configs: Mapping[str, Mapping[str, object]], module: str) -> tuple[str, Mapping[str, object] | None]:
    component = next((c for c in configs if c and module.startswith(c + ".")), "")
    return component, configs.get(component)


def describe(adapters: Mapping[str, LoRA | DoRA]) -> dict[str, object]:
    """The LoraConfig (adapter_config.json) of these adapters; names with or without `base_model.model.`"""
    paths = {name.rpartition(_PREFIX)[2]: adapter for name, adapter in adapters.items()}
    rank = Counter(adapter.rank for adapter in paths.values()).most_common(1)[0][0]
    alphas = {path: adapter.alpha or 0.0 for path, adapter in paths.items()}
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    exact = {path: "^" + re.escape(path) for path in paths}  # PEFT reads the keys of both patterns as expressions
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": _plain(alpha),
        "target_modules": sorted(paths),
        "rank_pattern": {exact[p]: a.rank for p, a in paths.items() if a.rank != rank},
        "alpha_pattern": {exact[p]: _plain(own) for p, own in alphas.items() if own != alpha},
        "use_rslora": False,
        "use_dora": all(isinstance(a, DoRA) for a in paths.values()),
        "bias": "none",
        "fan_in_fan_out": False,
        "lora_dropout": 0.0,
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
    }


def _parse(metadata: Mapping[str, str], header: str) -> dict[str, object] | None:
    """The fields of a configuration in the header, none where there is none; None where it is no JSON object."""
    text = metadata.get(header)
    if text is None:
        return {}
    try:
        fields = json.loads(text) if isinstance(text, str) and len(text) <= _MAX_CHARS else None
    except (ValueError, RecursionError):
        fields = None
    return fields if isinstance(fields, dict) else None


def _pattern(config: Mapping[str, object], field: str, path: str, otherwise: object) -> object:
    """The value of the first expression that matches the end of the path, as PEFT's get_pattern_key finds it."""
    patterns = config.get(field) or {}
    if not isinstance(patterns, Mapping):
        raise LoRAError(f"its configuration's {field} is not a table of names")
    if patterns and len(path) > _MAX_NAME:
        raise LoRAError(f"its name has {len(path)} characters, and its configuration's {field} cannot be tried on it")
    for expression, value in patterns.items():
        if re.match(rf"(.*\.)?({_check_pattern(str(expression), field)})$", path):
            return value
    return otherwise


def _check_pattern(expression: str, field: str) -> str:
    """The expression, once it is known to run in linear time: no groups, and two repetitions at the most."""
    bare = re.sub(r"\\.", "", expression)  # escaped signs are letters
    simple = len(expression) <= _MAX_NAME and not re.search(r"[({]", bare) and len(re.findall(r"[*+?]", bare)) < 3
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError):
        simple = False
    if not simple:
        raise LoRAError(f"its configuration's {field} has {expression[:80]!r}, which is too complicated to be read")
    return expression


def _number(value: object, field: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
        raise LoRAError(f"its configuration's {field} is {str(value)[:80]!r}: expected a number")
    return float(value)


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
