"""A whole SDXL minus another one through `cvl lora extract`: planted ranks found, seconds, memory.

    python benchmarks/workshop/lora_from_sdxl.py [--share 1.0] [--folder FOLDER]

Two checkpoints in fp16 with the names and shapes of SDXL (UNet and both text encoders, 5.3 GB each) are written tensor
by tensor: seeded random weights, and in the second one a change of a known rank from 8 to 64 in every matrix and
kernel. Then the command runs in a process of its own, as a user would start it; the peak of memory is that process's.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "headless"))
import checkout

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.files.safetensors_file import write_stream  # noqa: E402
from clip_vae_lora.headless import cvl  # noqa: E402
from clip_vae_lora.lora.models.published import sdxl  # noqa: E402

_SIZE = 0.05  # of a change's numbers, over those of its weight


def shapes(share):
    """The weights of SDXL by their names in its checkpoint; of the matrices and kernels only so large a share."""
    known = {f"model.{key}" if key.startswith("diffusion_model.") else key: own for key, own in sdxl().items()}
    matrices = [key for key, own in known.items() if is_changed(key, own)]
    chosen = set(matrices[:: max(1, round(1 / share))])
    return {key: own for key, own in known.items() if key in chosen or not is_changed(key, own)}


def is_changed(key, shape):
    return len(shape) > 1 and "embedding" not in key


def planted(number, shape):
    """The rank of the change of the weight with this number."""
    return min(8 + 8 * (number % 8), shape[0], math.prod(shape[1:]))


def weight(number, shape, changed):
    """The weight with this number in one of the two models, in fp16."""
    draw = torch.Generator().manual_seed(number)
    inside = math.prod(shape[1:])
    base = (torch.randn(shape, generator=draw) * inside**-0.5).half()
    if not changed:
        return base
    rank = planted(number, shape)
    up, down = torch.randn(shape[0], rank, generator=draw), torch.randn(rank, inside, generator=draw)
    return torch.addmm(base.flatten(1).float(), up, down, alpha=_SIZE / (rank * inside) ** 0.5).half().reshape(shape)


def write(path, known, tuned):
    """A checkpoint, with one tensor in memory at a time."""
    numbers = {key: number for number, key in enumerate(known)}

    def tensor_of(key):
        return weight(numbers[key], known[key], tuned and is_changed(key, known[key]))

    write_stream(path, {key: (torch.float16, own) for key, own in known.items()}, tensor_of, {})


def run(*arguments):
    """The seconds, the peak of memory in MB and the answer of a `cvl` command."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as answer:
        process = subprocess.Popen([sys.executable, __file__, "cvl", *map(str, arguments)], stdout=answer)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        answer.seek(0)
        text = answer.read()
    if process.returncode:
        sys.exit(text.decode())
    return time.perf_counter() - start, used.ru_maxrss / 1024, json.loads(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the matrices and kernels (1.0: all)")
    parser.add_argument("--folder", type=Path, help="where the two files are made; they are removed in the end")
    options = parser.parse_args()
    known = shapes(options.share)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        base, tuned, made = (Path(folder, f"{name}.safetensors") for name in ("base", "tuned", "made"))
        write(base, known, False)
        write(tuned, known, True)
        seconds, peak, found = run("lora", "extract", tuned, base, "-o", made, "--json")
        size = base.stat().st_size / 1e9
    wanted = {
        key.removeprefix("model."): planted(number, own)
        for number, (key, own) in enumerate(known.items())
        if is_changed(key, own)
    }
    right = sum(wanted.pop(layer["part"]) == layer["rank"] for layer in found["layers"])
    print(f"{size:.2f} GB each: the planted rank in {right} of {right_of(found, wanted)} layers", end=", ")
    print(f"{seconds:.0f} s on {torch.get_num_threads()} threads", end=", ")
    print(f"peak {peak:.0f} MB, torch and all", end="; ")
    print(f"error {found['error']:.2e}, {found['size_bytes'] / 1e6:.0f} MB written")


def right_of(found, missing):
    """How many layers there were, which those that were not found count to."""
    return len(found["layers"]) + len(missing)


if __name__ == "__main__":
    sys.exit(cvl.main(sys.argv[2:]) if sys.argv[1:2] == ["cvl"] else main())
