"""The nodes that train."""

from . import train_lora

NODES = {**train_lora.NODES}
