"""Where a module's rows belong, by diffusers' own converters of checkpoints, and whether a patch has put them there.

A converter is given a checkpoint whose values are the numbers of its rows, and what comes out tells where they went.
"""

import json
import tempfile
import zlib
from pathlib import Path

import torch

from . import models
from .dialects import change
from .families import Family

# a module's name -> the model's key, and its row for each of the module's rows
Truth = dict[str, tuple[str, list[int]]]
# functions of diffusers' single_file_utils, and how often a row is repeated where one has widths of its own
CONVERTERS = {
    "Flux.1": ("convert_flux_transformer_checkpoint_to_diffusers", 48),
    "LongCat-Image": ("convert_flux_transformer_checkpoint_to_diffusers", 48),
    "Flux.2": ("convert_flux2_transformer_checkpoint_to_diffusers", 1),
    "Chroma": ("convert_chroma_transformer_checkpoint_to_diffusers", 48),
    "SD 3": ("convert_sd3_transformer_checkpoint_to_diffusers", 1),
    "AuraFlow": ("convert_auraflow_transformer_checkpoint_to_diffusers", 1),
    "LTX-Video": ("convert_ltx_transformer_checkpoint_to_diffusers", 1),
    "LTX-2": ("convert_ltx2_transformer_to_diffusers", 1),
    "HunyuanVideo": ("convert_hunyuan_video_transformer_to_diffusers", 48),
    "Lumina 2": ("convert_lumina2_to_diffusers", 24),
    "Z-Image": ("convert_z_image_transformer_checkpoint_to_diffusers", 1),
    "Wan 2.1 T2V": ("convert_wan_transformer_to_diffusers", 1),
    "Wan 2.1 I2V": ("convert_wan_transformer_to_diffusers", 1),
    "Wan VACE": ("convert_wan_transformer_to_diffusers", 1),
    "HiDream": ("convert_hidream_transformer_to_diffusers", 1),
    "Cosmos-Predict2": ("convert_cosmos_transformer_checkpoint_to_diffusers", 1),
    "Anima": ("convert_cosmos_transformer_checkpoint_to_diffusers", 1),
    "ERNIE-Image": ("convert_ernie_image_transformer_checkpoint_to_diffusers", 1),
    "Krea 2": ("convert_krea2_transformer_checkpoint_to_diffusers", 1),
    "MiniMax H3": ("convert_minimax_h3_transformer_checkpoint_to_diffusers", 1),
}
# the names of the checkpoint where the host has others
RENAMED = {
    "HunyuanVideo": (
        ("_mod.lin.", "_mod.linear."),
        ("_attn.qkv.", "_attn_qkv."),
        ("_attn.proj.", "_attn_proj."),
        ("_mlp.0.", "_mlp.fc1."),
        ("_mlp.2.", "_mlp.fc2."),
        (".modulation.lin.", ".modulation.linear."),
    ),
}
CLOSE = 1e-5  # of fp32 sums against double precision, relative to the largest weight


class _Rows(dict):
    """A checkpoint of row numbers; a norm is found under both of its names, and what a model lacks is no number."""

    def __missing__(self, key: str) -> torch.Tensor:
        twin = key.removesuffix(".scale") + ".weight"
        return dict.__getitem__(self, twin) if twin != key and twin in self else torch.full((6, 1), -1.0)

    def pop(self, key: str, *default):
        found = self[key]
        dict.pop(self, key, *default) if key in self else None
        return found


def own(modules) -> Truth:
    """The host's own names: every module is its key, row by row."""
    return {name: (f"diffusion_model.{name}.weight", list(range(shape[0]))) for name, (shape, _) in modules.items()}


def twins(family: Family, patcher, modules) -> Truth:
    """Where diffusers' modules lie; without a converter those that have the same name and shape in the host."""
    shapes = models.shapes(patcher)
    same = {
        name: (key, list(range(shape[0])))
        for name, (shape, _) in modules.items()
        if shapes.get(key := f"diffusion_model.{name}.weight") == tuple(shape)
    }
    return _converted(family, shapes, modules) if family.name in CONVERTERS else same


def wrong(values, shapes, modules, truth: Truth, kind: str, rows) -> tuple[str, ...]:
    """The keys that have another value than the sum of what belongs there, in the rows that are changed."""
    expected: dict[str, torch.Tensor] = {}
    for name, (key, numbers) in truth.items():
        shape = modules[name][0]
        if key in rows and key in values and shape[1:] == tuple(shapes[key])[1:]:
            delta = change(name, shape, kind)
            if delta is None:
                return ()
            expected.setdefault(key, models.weight(key, shapes[key]).double())[numbers] += delta
    bad = []
    for key, value in expected.items():
        after = values[key].double()
        if ((after - value)[rows[key]].abs().max() > CLOSE * value.abs().max()).item():
            bad.append(key)
    return tuple(bad)


def _converted(family: Family, shapes, modules) -> Truth:
    function, grain = CONVERTERS[family.name]
    mark = zlib.crc32(repr((function, grain, RENAMED, sorted(shapes.items()), sorted(modules.items()))).encode())
    kept = Path(tempfile.gettempdir()) / f"cvl-diffusers-rows-{mark:08x}.json"
    if kept.exists():
        return {name: (key, numbers) for name, (key, numbers) in json.loads(kept.read_text()).items()}
    import diffusers.loaders.single_file_utils as converters

    checkpoint, owners, row = _Rows(), [], 0
    for key, shape in shapes.items():
        if key.startswith("diffusion_model."):
            rows = shape[0] if shape else 1
            numbers = torch.arange(row, row + rows, dtype=torch.float64).repeat_interleave(grain)
            wide = (rows * grain, *shape[1:])
            name = key.removeprefix("diffusion_model.")
            for here, there in RENAMED.get(family.name, ()):
                name = name.replace(here, there)
            checkpoint[name] = numbers.reshape(-1, *[1] * (len(wide) - 1)).expand(wide)
            owners += [(key, number) for number in range(rows)]
            row += rows
    out = getattr(converters, function)(checkpoint, config=family.twin)
    found: Truth = {}
    for name, (shape, _) in modules.items():
        numbers = out[f"{name}.weight"].flatten(1)[::grain, 0].long().tolist() if f"{name}.weight" in out else []
        if len(numbers) == shape[0] and min(numbers) >= 0 and len({owners[number][0] for number in numbers}) == 1:
            found[name] = (owners[numbers[0]][0], [owners[number][1] for number in numbers])
    kept.write_text(json.dumps(found))
    return found
