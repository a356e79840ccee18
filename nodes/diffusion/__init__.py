"""Diffusion models of our own kind, and the training of LoRAs for any."""

from . import load, train_lora

NODES = {**load.NODES, **train_lora.NODES}
