"""The LoRA workshop: files merged, compared, edited, resized, extracted, and put into checkpoints."""

from . import bake, compare, edit, extract, merge, resize

NODES = {**merge.NODES, **compare.NODES, **edit.NODES, **bake.NODES, **resize.NODES, **extract.NODES}
