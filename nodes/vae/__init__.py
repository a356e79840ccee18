"""Pictures to latents and back, and what is done to latents."""

from . import codec, inpaint, latents, load

NODES = {**load.NODES, **codec.NODES, **latents.NODES, **inpaint.NODES}
