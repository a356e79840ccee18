"""What a VAE in a file is: its config, how its tensors are called there, and the checks that both kinds share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from ..autoencoder import AutoencoderKL
from ..config import VAEConfig
from ..layers import Device
from ..tiny import TinyAutoencoder, TinyConfig
from .foreign import LayoutError, Shapes

ATTENTION_WEIGHT = re.compile(r"\.mid\.attn_1\.(q|k|v|proj_out)\.weight$")
_WIDEST = 1 << 16  # channels; wider ones are a damaged header


@dataclass(frozen=True)
class VAESource:
    """A VAE found in a file: how big it is, where it lies, and how its tensors are called here."""

    config: VAEConfig | TinyConfig
    kind: str  # "kl": AutoencoderKL; "tiny": TinyAutoencoder
    layout: str  # "ldm", "diffusers"; tiny: "taesd", "pair", "comfyui", "diffusers"
    prefix: str  # what stands before every name in the file
    renames: dict[str, str]  # the file's name: ours
    notes: tuple[str, ...]  # what a user should know
    ignored: tuple[str, ...]  # tensors under the prefix that are no part of the network
    has_encoder: bool
    has_decoder: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The file's tensors to read."""
        return tuple(self.renames)

    def build(
        self, operations: ModuleType | type = nn, device: Device = None, dtype: torch.dtype | None = None
    ) -> AutoencoderKL | TinyAutoencoder:
        """The network that `translate`'s result loads into, strictly; its weights are not set yet."""
        network = AutoencoderKL if self.kind == "kl" else TinyAutoencoder
        return network(self.config, operations, device, dtype, encoder=self.has_encoder, decoder=self.has_decoder)

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors (more than `names` may be given) under our names and in our shapes, dtypes unchanged.

        Raises LayoutError when one of `names` is missing.
        """
        missing = [name for name in self.renames if name not in tensors]
        if missing:
            raise LayoutError(
                f"{len(missing)} of the VAE's {len(self.renames)} tensors were not given, {missing[0]!r} "
                "the first: read every name in `names`"
            )
        ours = {new: as_ours(new, tensors[old]) for old, new in self.renames.items()}
        if self.kind == "tiny":
            ours.setdefault("vae_scale", torch.tensor(self.config.scale))
            ours.setdefault("vae_shift", torch.tensor(self.config.shift))
        elif self.config.patch > 1:
            ours.setdefault("bn.num_batches_tracked", torch.tensor(0))
        return ours


def as_ours(name: str, tensor: Tensor) -> Tensor:
    """Attention weights stored as matrices become 1x1 convolutions. [C, C] -> [C, C, 1, 1]"""
    return tensor[:, :, None, None] if tensor.ndim == 2 and ATTENTION_WEIGHT.search(name) else tensor


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


def checked(source: VAESource, found: Shapes, inner: Shapes) -> VAESource:
    """`source` with only the tensors its network has, the others ignored or, where they would change it, refused."""
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
    spare = ("quant_conv.",) * (not source.has_encoder) + ("post_quant_conv.",) * (not source.has_decoder)
    surplus = [name for name in found if name not in expected and not name.startswith(spare)]
    if surplus:
        raise LayoutError(
            f"this VAE has {len(surplus)} tensors that an AutoencoderKL or TAESD does not, "
            f"{surplus[0]!r} the first: it is of another kind"
        )
    renames = {old: new for old, new in source.renames.items() if new in expected}
    return replace(source, renames=renames, ignored=tuple(name for name in inner if name not in renames))
