"""How long it takes to read a LoRA file of a thousand modules and to find their places: SDXL's, as kohya names it.

    python benchmarks/lora_files.py [--rank 16] [--rounds 5]

The file (986 modules of UNet and both text encoders, fp16) is written to a temporary folder and read warm. "node" is
Load LoRA without ComfyUI at strength 0, so nothing is merged: read, matched, told, and drawn; "node, kept" the same
file again. "norms" reads all weights, as LoRA Info does with a model; "sizes" a few rows of each, as the report does
once for a model.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.files.tensors import write_tensors  # noqa: E402
from clip_vae_lora.lora.models import published  # noqa: E402
from clip_vae_lora.lora.models.match import match  # noqa: E402
from clip_vae_lora.lora.models.names import spellings  # noqa: E402
from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS  # noqa: E402
from clip_vae_lora.nodes.host import host  # noqa: E402
from clip_vae_lora.nodes.host.alone.clip import StandaloneClipModel  # noqa: E402
from clip_vae_lora.nodes.lora import files as lora_files  # noqa: E402

PARTS = (".transformer_blocks.", ".proj_in.", ".proj_out.", ".encoder.layers.")


def network(shapes):
    """Modules with weights of these shapes, all their numbers in one place: nothing here changes them."""
    root = nn.Module()
    for key, shape in shapes.items():
        module = root
        for name in key.split(".")[:-1]:
            module.add_module(name, getattr(module, name, nn.Module()))
            module = getattr(module, name)
        module.weight = nn.Parameter(torch.ones((), dtype=torch.float16).expand(shape), requires_grad=False)
    return root


def write(path, shapes, rank):
    names, tensors = spellings(list(shapes), "kohya"), {}
    for key, (out, *inner) in shapes.items():
        if inner and any(part in key for part in PARTS):
            tensors[f"{names[key]}.lora_up.weight"] = torch.randn(out, rank).half() * 0.01
            tensors[f"{names[key]}.lora_down.weight"] = torch.randn(rank, *inner).half()
            tensors[f"{names[key]}.alpha"] = torch.tensor(float(rank))
    write_tensors(path, tensors, {"ss_network_dim": str(rank)})
    return len(tensors) // 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    shapes, times = published.sdxl(), {}
    model = StandaloneClipModel(network(shapes), None)

    def timed(name, work):
        start = time.perf_counter()
        result = work()
        times.setdefault(name, []).append(time.perf_counter() - start)
        return result

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "models" / "loras" / "xl.safetensors"
        path.parent.mkdir(parents=True)
        count = write(path, shapes, given.rank)
        host.set_place(models=Path(folder) / "models", temp=Path(folder), on_step=lambda done, total: None)
        places = match(lora_files.read_lora(path).file, shapes).found
        timed("norms", lambda: host.norms(model, list(places), lambda done, total: None))
        timed("sizes", lambda: host.sizes(model, list(places)))
        for _ in range(given.rounds):
            timed("read and matched", lambda: match(lora_files.read_lora(path).file, shapes))
            node = NODE_CLASS_MAPPINGS["CVL_LoadLoRA"]()  # another one, which keeps nothing
            timed("node", lambda node=node: node.load(path.name, 0.0, 0.0, clip_model=model))
            timed("node, kept", lambda node=node: node.load(path.name, 0.0, 0.0, clip_model=model))
        size = path.stat().st_size
    print(
        f"{count} modules of rank {given.rank}, {size / 1e6:.0f} MB, {given.threads} threads, median of {given.rounds}"
    )
    for name, taken in times.items():
        print(f"{name:20} {statistics.median(taken):.3f} s")


if __name__ == "__main__":
    main()
