"""Writing: adapters become the tensors and the header of a file, in any dialect that can hold their kinds."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from ..kinds.adapters import Adapter, LoRA, LoRAError
from ..kinds.magnitude import DoRA
from ..kinds.table import row_of
from ..kinds.widening import Widening
from .adapter_config import describe
from .dialects import DIALECTS, FOLDED, STORED

_KINDS = {torch.bfloat16: "BF16", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}  # others have 3 letters


def write(
    adapters: Mapping[str, Adapter], dialect: str, metadata: Mapping[str, str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Write makes the tensors and the header of a standard file; the names of `adapters` are those of `spellings`.

    kohya, lycoris and onetrainer have .alpha and hold every kind. diffusers, diffusers_0.2, diffusers_0.1, xlabs, bfl
    and cloneofsimo hold plain LoRA and cannot hold alpha, so the scale is multiplied into up. peft holds LoRA and
    DoRA; its configuration is in the header's `adapter_config`, PEFT itself wants it as adapter_config.json.

    Raises:
        LoRAError: there are no adapters, the dialect is unknown, or it cannot hold one of the adapters.
    """
    if dialect not in DIALECTS:
        raise LoRAError(f"the dialect is {dialect!r}: expected one of {', '.join(DIALECTS)}")
    header = header_of(adapters, dialect, metadata)
    tensors: dict[str, Tensor] = {}
    for name, adapter in adapters.items():
        put = _put_kohya(name, adapter) if DIALECTS[dialect].alpha == STORED else _put_plain(name, adapter, dialect)
        if twice := put.keys() & tensors.keys():
            raise LoRAError(f"{sorted(twice)[0]} would be written twice")
        tensors |= {key: tensor.contiguous() for key, tensor in put.items()}
    return tensors, header


def header_of(
    adapters: Mapping[str, Adapter], dialect: str, metadata: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The header of the file of these adapters, whose numbers are not read.

    Raises:
        LoRAError: there are no adapters, or the dialect cannot say what they are.
    """
    header = {"format": "pt", **(metadata or {})}
    if odd := next((key for key, value in header.items() if not isinstance(value, str)), None):
        raise LoRAError(f"the metadata's {odd} is {type(header[odd]).__name__}: a file's header holds text only")
    if not adapters:
        raise LoRAError("there are no adapters to write")
    if DIALECTS[dialect].alpha == STORED:
        header = _kohya_header(adapters) | header
    if dialect == "peft":
        if len({isinstance(adapter, DoRA) for adapter in adapters.values()}) > 1:
            raise LoRAError("some adapters are DoRA and some are not, which a PEFT file cannot say: write it as kohya")
        header["adapter_config"] = json.dumps(describe({name: _of_peft(a) for name, a in adapters.items()}))
    if dialect == "cloneofsimo":
        header = _cloneofsimo_header(adapters) | header
    return header


def bytes_of_file(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> int:
    """The size of the safetensors file of these tensors and texts: a length, the header padded to 8, the numbers.

    >>> bytes_of_file({"a": torch.zeros(2, 3, dtype=torch.float16)}, {"format": "pt"})
    108
    """
    entries: dict[str, object] = {"__metadata__": dict(header)} if header else {}
    place = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        kind = _KINDS.get(tensor.dtype, "F16")
        entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [place, place + tensor.nbytes]}
        place += tensor.nbytes
    text = len(json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode())
    return 8 + -(-text // 8) * 8 + place


def _inside(adapter: Adapter) -> Adapter:
    """The adapter itself, or the inner one of a DoRA or of a control LoRA."""
    return adapter.inner if isinstance(adapter, DoRA | Widening) else adapter


def _of_peft(adapter: Adapter) -> LoRA | DoRA:
    """The adapter, of which `_put_plain` has checked that a PEFT file can hold it."""
    if not isinstance(adapter, LoRA | DoRA):
        raise LoRAError(f"an adapter is {adapter.kind}, which peft files cannot hold: write it as kohya")
    return adapter


def _put_plain(name: str, adapter: Adapter, dialect: str) -> dict[str, Tensor]:
    """The tensors of a plain LoRA (in peft also of a DoRA) in a dialect without .alpha."""
    style = DIALECTS[dialect]
    lora = _inside(adapter) if dialect == "peft" else adapter
    if isinstance(lora, LoRA) and lora.mid is not None:
        raise LoRAError(f"{name} has a middle tensor, which {dialect} files cannot hold: write it as kohya")
    if not isinstance(lora, LoRA):
        raise LoRAError(f"{name} is {adapter.kind}, which {dialect} files cannot hold: write it as kohya")
    if dialect == "peft" and "base_model.model." not in name:
        raise LoRAError(
            f"{name} has no base_model.model. before it, so PEFT would not find it: "
            'take the names from spellings(keys, "peft")'
        )
    tensors = {name + style.down: lora.down, name + style.up: _scale_up(lora) if style.alpha == FOLDED else lora.up}
    if isinstance(adapter, DoRA):
        if not adapter.always_rows:
            raise LoRAError(
                f"{name} is a DoRA with {list(adapter.magnitude.shape)} magnitudes as kohya files have "
                "them, and PEFT knows rows only: write it as kohya"
            )
        tensors[name + ".lora_magnitude_vector"] = adapter.magnitude
    return tensors


def _put_kohya(name: str, adapter: Adapter) -> dict[str, Tensor]:
    """The tensors of any kind with LyCORIS' suffixes, which all dialects with .alpha share.

    The change of a bias is written under its module's name, with the bias suffix of its row.
    """
    if isinstance(adapter, DoRA):
        end = ".lora_magnitude_vector" if adapter.always_rows else ".dora_scale"
        return _put_kohya(name, adapter.inner) | {name + end: adapter.magnitude}
    if isinstance(adapter, Widening):
        return _put_kohya(name, adapter.inner) | {f"{name}.reshape_weight": torch.tensor(adapter.shape)}
    row = row_of(adapter)
    if row is None:
        raise LoRAError(f"{name} is {adapter.kind} in a form that no file can say")
    module = name.removesuffix(".bias")
    if row.bias and module != name:
        return {f"{module}.{row.bias}": getattr(adapter, next(iter(row.parts.values())))}
    parts = {
        f"{name}.{suffix}": part
        for suffix, own in row.parts.items()
        if isinstance(part := getattr(adapter, own), Tensor)
    }
    if row.has_alpha and adapter.alpha is not None:
        parts[f"{name}.alpha"] = _alpha_tensor(adapter.alpha)
    marks = {} if row.marks is None else row.marks(name, adapter)
    return parts | {f"{name}.{suffix}": part for suffix, part in marks.items()}


def _scale_up(adapter: LoRA) -> Tensor:
    """up times the scale, in up's own dtype where the product is exact there, else in fp32."""
    scaled = adapter.up.float() * adapter.scale
    own = scaled.to(adapter.up.dtype)
    return own if torch.equal(own.float(), scaled) else scaled


def _alpha_tensor(alpha: float) -> Tensor:
    single = torch.tensor(alpha, dtype=torch.float32)
    return single if single.item() == alpha else torch.tensor(alpha, dtype=torch.float64)


def _kohya_header(adapters: Mapping[str, Adapter]) -> dict[str, str]:
    """The header entries in which sd-scripts describes the adapters; a trainer adds its own about the training."""
    ranked = [adapter for adapter in adapters.values() if adapter.rank]
    ranks, alphas = {a.rank for a in ranked}, {a.alpha for a in ranked}
    kinds = {type(_inside(a)) for a in adapters.values()}
    lycoris = kinds != {LoRA} or any(isinstance(a, LoRA) and a.mid is not None for a in adapters.values())
    header = {
        "ss_network_module": "lycoris.kohya" if lycoris else "networks.lora",
        "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic",
    }
    rows = (row_of(_inside(a)) for a in adapters.values())
    algorithm = next((row.algorithm for row in rows if row and row.algorithm), "locon")
    more = {"use_tucker": "True"} if algorithm == "locon" else {}
    return header | ({"ss_network_args": json.dumps({"algo": algorithm, **more})} if lycoris else {})


def _cloneofsimo_header(adapters: Mapping[str, Adapter]) -> dict[str, str]:
    classes = {"unet": ["CrossAttention", "Attention", "GEGLU"], "text_encoder": ["CLIPAttention"]}
    if odd := next((name for name in adapters if name.partition(":")[0] not in classes), None):
        raise LoRAError(f'{odd} is not a number of cloneofsimo\'s: take the names from spellings(keys, "cloneofsimo")')
    header = {
        part: json.dumps(names)
        for part, names in classes.items()
        if any(name.startswith(part + ":") for name in adapters)
    }
    return header | {f"{name}:rank": str(adapter.rank) for name, adapter in adapters.items()}
