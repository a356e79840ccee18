"""The nodes that train."""

from . import train_clip, train_lora, train_vae

NODES = {**train_lora.NODES, **train_vae.NODES, **train_clip.NODES}
