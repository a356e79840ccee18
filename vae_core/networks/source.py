"""What a VAE in a file is: its network and config, its tensors' names there, and the checks that all kinds share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from ..channels import SUPPORTED
from ..layers import Device, Operations
from ..tiling.network import NetworkConfig, VAENetwork

Shapes = Mapping[str, tuple[int, ...]]

# what quantised files keep beside a weight
_SCALES = (".scale_weight", ".weight_scale", ".weight_scale_2", ".SCB", ".absmax", ".quant_state", ".comfy_quant")
_WIDEST = 1 << 16  # channels; wider ones are a damaged header


class LayoutError(ValueError):
    """These tensors are not a VAE that can be loaded; one sentence says what they are and what was expected."""


@dataclass(frozen=True)
class VAESource:
    """A VAE found in a file: its network and size, where it lies, and how its tensors are called here."""

    network: type[VAENetwork]
    config: NetworkConfig
    layout: str  # whose names: "ldm", "diffusers", "comfyui", "taesd", "pair" of a TAESD's files, ...
    renames: dict[str, str]  # the file's name: ours
    notes: tuple[str, ...] = ()  # what a user should know
    has_encoder: bool = True
    has_decoder: bool = True
    prefix: str = ""  # before every name in the file
    ignored: tuple[str, ...] = ()  # tensors under the prefix that are no part of the network
    matrices: tuple[str, ...] = ()  # our names of 1x1 convolutions that the file holds as matrices
    defaults: dict[str, float] = field(default_factory=dict)  # our names of single numbers that a file may leave out

    @property
    def kind(self) -> str:
        """The network's row in `table.NETWORKS`."""
        return self.network.kind

    @property
    def names(self) -> tuple[str, ...]:
        """The file's tensors to read."""
        return tuple(self.renames)

    def build(
        self, operations: Operations | ModuleType = nn, device: Device = None, dtype: torch.dtype | None = None
    ) -> VAENetwork:
        """The network that `translate`'s result loads into, strictly; its weights are not set yet."""
        return self.network(self.config, operations, device, dtype, encoder=self.has_encoder, decoder=self.has_decoder)

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors (more than `names` may be given) under our names and in our shapes, dtypes unchanged.

        Raises LayoutError when one of `names` is missing, or the weights are quantised.
        """
        missing = [name for name in self.renames if name not in tensors]
        if missing:
            raise LayoutError(
                f"{len(missing)} of the VAE's {len(self.renames)} tensors were not given, {missing[0]!r} "
                "the first: read every name in `names`"
            )
        whole = [old for old in self.renames if tensors[old].ndim and not tensors[old].is_floating_point()]
        if whole:
            raise LayoutError(_quantised(f"{whole[0]!r} is {str(tensors[whole[0]].dtype)[6:]}"))
        ours = {new: tensors[old] for old, new in self.renames.items()}
        for name in self.matrices:
            if ours[name].ndim == 2:
                ours[name] = ours[name][:, :, None, None]  # [C, C] -> [C, C, 1, 1]
        for name, number in self.defaults.items():
            ours.setdefault(name, torch.tensor(number))
        return ours


def _quantised(why: str) -> str:
    return (
        f"fractional weights were expected, but this VAE is quantised ({why}), which is not read here: take its file "
        "in fp32, fp16 or bf16"
    )


def count(names: Shapes, stem: str) -> int:
    """How many different numbers follow `stem` in the names."""
    return len({name[len(stem) :].split(".", 1)[0] for name in names if name.startswith(stem)})


def dim(found: Shapes, name: str, axis: int) -> int:
    """One side of a convolution's weight. Raises LayoutError where there is none."""
    if not is_convolution(found, name):
        raise LayoutError(
            f"the VAE's convolution {name!r} is {list(found[name]) if name in found else 'missing'}: "
            "the file is damaged or of an unknown kind"
        )
    return found[name][axis]


def is_convolution(shapes: Shapes, name: str) -> bool:
    """Whether the tensor is there, two-dimensional, and of a size that a network can have."""
    return len(shapes.get(name, ())) == 4 and all(0 < size <= _WIDEST for size in shapes[name])


def half_notes(has_encoder: bool, has_decoder: bool) -> tuple[str, ...]:
    """What to say of a file with one half."""
    notes = {
        (True, False): "the file holds only an encoder: it cannot decode",
        (False, True): "the file holds only a decoder: it cannot encode",
    }
    return tuple(note for halves, note in notes.items() if halves == (has_encoder, has_decoder))


def check_tensors(source: VAESource, found: Shapes, inner: Shapes, unused: tuple[str, ...] = ()) -> VAESource:
    """Keep those of a file's tensors that the network has, list the others as ignored, refuse any that would change it.

    `found` are the shapes under our names, `inner` those under the file's without its prefix. Tensors of ours that
    start with one of `unused` may be there though the network has none such. Raises LayoutError.
    """
    if source.config.image_channels not in SUPPORTED:
        raise LayoutError(
            f"this VAE is for pictures of {source.config.image_channels} channels, but RGB, RGBA or grey was expected: "
            "it is of an unknown kind"
        )
    found = {**dict.fromkeys(source.defaults, ()), **found}
    expected = {name: tuple(t.shape) for name, t in source.build(device="meta").state_dict().items()}
    missing = [name for name in expected if name not in found]
    if missing:
        raise LayoutError(
            f"this VAE lacks {len(missing)} of its {len(expected)} tensors, {missing[0]!r} the first: "
            "the file is incomplete or of an unknown kind"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise LayoutError(
                f"the VAE's tensor {name!r} is {list(found[name])} where {list(shape)} was expected: "
                "the file is damaged or of an unknown kind"
            )
    surplus = [name for name in found if name not in expected and not name.startswith(unused)]
    scales = [name for name in inner if name.endswith(_SCALES)]
    if scales:
        raise LayoutError(_quantised(f"it has {scales[0]!r}"))
    if surplus:
        raise LayoutError(
            f"this VAE has {len(surplus)} tensors that the {source.network.title} it looks like does not, "
            f"{surplus[0]!r} the first: it is of another kind"
        )
    renames = {old: new for old, new in source.renames.items() if new in expected}
    return replace(source, renames=renames, ignored=tuple(name for name in inner if name not in renames))
