"""THE place for VAE files: which kind a file holds, the sizes its shapes tell, and its tensors under our names.

Works on names and shapes, so that a file's header is enough to decide; only then are the tensors in `names` read. The
names of each kind's tensors are with its network, in `vae_core/networks`.
"""

from collections.abc import Mapping
from dataclasses import replace

from ..networks.source import LayoutError, Shapes, VAESource
from ..networks.table import NETWORKS
from ..networks.tiny_names import families_to_name, family_in_name
from .foreign import other_autoencoder, other_file

__all__ = ["LayoutError", "VAESource", "families_to_name", "family_in_name", "find_vae", "join_pair"]

_PREFIXES = ("first_stage_model.", "vae.", "conditioner.embedders.1.encoder.", "")  # where checkpoints keep their VAE


def find_vae(shapes: Shapes, family: str | None = None) -> VAESource:
    """Find the VAE among a file's tensors, from their names and shapes.

    Args:
        shapes: the shape of each tensor by its name in the file; a TAESD's two published files, read together, as
            `join_pair(encoder, decoder)`.
        family: a name of `config.FAMILIES`. Only a TAESD needs it: those of SD1 and SDXL, and those of SD3 and Flux.1,
            look the same.

    Returns:
        The network and its config, which tensors to read (`names`), and how they become ours (`translate`); what is not
        part of the network is in `ignored`.

    Raises:
        LayoutError: the tensors are no VAE of these kinds; the sentence says what they are, or which is damaged.

    >>> from ..networks.tiny import TinyAutoencoder, TinyConfig
    >>> tensors = TinyAutoencoder(TinyConfig(4)).state_dict()
    >>> source = find_vae({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    >>> source.kind, source.layout, source.config.latent, source.config.factor
    ('tiny', 'comfyui', 4, 8)
    >>> network = source.build()
    >>> network.load_state_dict(source.translate(tensors))
    <All keys matched successfully>
    """
    for prefix in _PREFIXES:
        inner = {name[len(prefix) :]: tuple(shape) for name, shape in shapes.items() if name.startswith(prefix)}
        other = other_autoencoder(inner)
        if other:
            known = " or ".join(row.known_as for row in NETWORKS.values())
            raise LayoutError(f"this is {other}; expected {known}")
        found = (row.find(inner, family) for row in NETWORKS.values())
        source = next((source for source in found if source is not None), None)
        if source is not None:
            return replace(
                source,
                prefix=prefix,
                renames={prefix + old: new for old, new in source.renames.items()},
                ignored=tuple(prefix + name for name in source.ignored),
            )
    raise LayoutError(f"expected a VAE, but {other_file(shapes)}")


def join_pair(encoder: Mapping, decoder: Mapping) -> dict:
    """A TAESD's `NAME_encoder` and `NAME_decoder` files as one dict, of shapes or of tensors alike.

    The names are "encoder." or "decoder." and the file's own: `encoder.0.weight`, `decoder.1.weight`, ...
    """
    return {
        f"{half}.{name}": value
        for half, part in (("encoder", encoder), ("decoder", decoder))
        for name, value in part.items()
    }
