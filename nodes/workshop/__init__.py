"""The LoRA workshop: files merged, compared, edited, and put into checkpoints."""

from . import bake, compare, edit, merge

NODES = {**merge.NODES, **compare.NODES, **edit.NODES, **bake.NODES}
