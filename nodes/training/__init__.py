"""The nodes that train."""

from . import train_lora, train_vae

NODES = {**train_lora.NODES, **train_vae.NODES}
