"""A process of several that train on shards, for test_shards: worker.py FOLDER.

Each of them tells what it opened and what was said, in a file for each training; the first one what came out.
"""

import json
import sys
import tarfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "headless"))
import checkout  # noqa: E402

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.files.errors import FileFormatError  # noqa: E402
from clip_vae_lora.files.tensors import write_tensors  # noqa: E402
from clip_vae_lora.tests.training.clip.test_run import made_of, towers  # noqa: E402
from clip_vae_lora.tests.training.shards.tars import PLANS, prepared  # noqa: E402
from clip_vae_lora.training.clip.data import pictures  # noqa: E402
from clip_vae_lora.training.clip.run import ClipHooks, train_clip  # noqa: E402
from clip_vae_lora.training.distributed import join_group  # noqa: E402
from clip_vae_lora.training.loop import Checkpoint  # noqa: E402

opened: dict[str, list[str]] = {"headers": [], "pictures": []}
open_archive, read = tarfile.open, pictures.read_pair


def opening(*given, **named):
    opened["headers"].append(Path(named["fileobj"].name).name)
    return open_archive(*given, **named)


def reading(pair):
    opened["pictures"].append(pair.path.name)
    return read(pair)


def break_off(done: int, total: int, loss: float) -> None:
    if done == 3:
        raise KeyboardInterrupt


def main(folder: Path) -> None:
    tarfile.open, pictures.read_pair = opening, reading
    pictures._MOST_BYTES = 0  # so that each is read again when its turn comes
    with join_group(torch.device("cpu")) as group:
        for plan, place in (("contrastive", "four"), ("classes", "four"), ("contrastive", "one"), ("", "broken")):
            opened["headers"], opened["pictures"], said = [], [], []
            try:
                data = prepared(folder / place)
                made = train_clip(towers(), data, PLANS[plan], hooks=ClipHooks(every=0))
                said = list(data.notes)
                if group.first:
                    write_tensors(folder / f"{plan} {place}", made_of(made), {})
            except FileFormatError as error:
                said = [str(error)]
            (folder / f"{plan} {place} {group.rank}.json").write_text(json.dumps(opened | {"said": said}))
        state, hooks = Checkpoint(folder / "state", every=100), ClipHooks(break_off, every=0)
        train_clip(towers(), prepared(folder / "four"), PLANS["contrastive"], hooks=hooks, checkpoint=state)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
