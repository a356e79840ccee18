"""Pictures to latents and back, and what is done to latents."""

from . import codec, inpaint, latents, load, prior, rescale

NODES = {**load.NODES, **codec.NODES, **latents.NODES, **prior.NODES, **inpaint.NODES, **rescale.NODES}
