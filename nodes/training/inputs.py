"""The inputs that every node has which trains, and when such a node is to run again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...files.captioned.folder import CAPTIONS, natural_files
from ...files.captioned.pairs import KINDS
from ...files.captioned.table import ENDINGS
from ...training.optimisers import OPTIMISERS
from ...training.record.log import TRAININGS
from ..host import host
from ..host.shared.data_folders import EXAMPLES

FOLDER = (
    ["input", "output", EXAMPLES],
    {"tooltip": "ComfyUI's input or output folder, or the examples of this pack, which have 'striped things'."},
)
STEPS = ("INT", {"default": 500, "min": 1, "max": 1_000_000, "tooltip": "Steps of the optimiser."})
SEED = (
    "INT",
    {
        "default": 0,
        "min": 0,
        "max": 2**63 - 1,
        "control_after_generate": False,
        "tooltip": "The same seed, the same file.",
    },
)
RESUME = ("BOOLEAN", {"default": False, "tooltip": "Go on with a training of this name that was cancelled."})
ALPHA = (
    "FLOAT",
    {"default": 0.0, "min": 0.0, "max": 4096.0, "step": 1.0, "advanced": True, "tooltip": "0: the same as the rank."},
)
ACCUMULATE = ("INT", {"default": 1, "min": 1, "max": 256, "advanced": True, "tooltip": "Batches before a step."})
OPTIMISER = (list(OPTIMISERS), {"advanced": True, "tooltip": "What moves the weights. Usual: AdamW."})
_READ = KINDS | {*CAPTIONS, *ENDINGS, ".tar", ".json"}  # the endings of what is learned from


def fingerprint(which: str | None, below: str | None) -> str | float:
    """Return a mark that changes when a folder's pictures or words do, so that the host knows whether to train again;
    NaN, which is equal to nothing, without a folder, or where one of the inputs is linked (None).
    """
    if which is None or below is None:
        return float("nan")
    try:
        folder = host.data_places().pictures_folder(which, below)
        files = [path for path in natural_files(folder) if path.suffix.lower() in _READ and TRAININGS not in path.parts]
        told = [(path.relative_to(folder).as_posix(), *_state(path)) for path in files]
    except (ValueError, OSError):
        return float("nan")
    return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
