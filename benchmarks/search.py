"""Exact search beside one plain matrix product over the same rows, in one run.

    python benchmarks/search.py --rows 1000000 --width 512 --rounds 5

The rows lie in an index of shards on the disk, memory-mapped, in the page cache. "mapped" is the node's way: the index
opened anew, then searched; "warm" searches an index that is open; "product" is `rows @ query` over one tensor in
memory, and over the mapped rows. Rounds alternate; medians are shown.
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.clip_core.features.search import nearest  # noqa: E402
from clip_vae_lora.index.reading import open_index  # noqa: E402
from clip_vae_lora.index.shards import Picture, ShardEntry, write_shard  # noqa: E402
from clip_vae_lora.index.table import Facts  # noqa: E402
from clip_vae_lora.index.writing import MERGED_ROWS, writing  # noqa: E402


def make(folder: Path, count: int, width: int) -> None:
    """An index of random rows in shards of the size that tidying makes."""
    draw = torch.Generator().manual_seed(0)
    with writing(folder, Facts("benchmark", "random rows", width, "../pictures")) as writer:
        for start in range(0, count, MERGED_ROWS):
            rows = F.normalize(torch.randn(min(MERGED_ROWS, count - start), width, generator=draw), dim=1)
            name = write_shard(folder, (), rows, "benchmark")
            with writer.table.changing():
                number = writer.table.add_shard(name, len(rows))
                writer.table.put([ShardEntry(Picture(f"{start + n}.png", 1, 1), n) for n in range(len(rows))], number)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        print(f"index made in {seconds(lambda: make(index, options.rows, options.width)):.1f} s")
        kept = open_index(index)
        memory = torch.cat(kept.blocks)
        queries = F.normalize(torch.randn(options.queries, options.width), dim=1)
        ways = {
            "product in memory": lambda: memory @ queries.T,
            "product, mapped": lambda: [block @ queries.T for block in kept.blocks],
            "search, warm": lambda: nearest(kept.blocks, queries, options.count, dead=kept.dead),
            "search, opened anew": lambda: _anew(index, queries, options.count),
            "search in memory": lambda: nearest([memory], queries, options.count),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, work in ways.items():
                times[name].append(seconds(work))
        plain = statistics.median(times["product in memory"])
        for name, found in times.items():
            middle = statistics.median(found)
            print(f"{name:20} {middle * 1000:8.1f} ms  {middle / plain:5.2f} x")
    return 0


def _anew(index: Path, queries: torch.Tensor, count: int) -> None:
    opened = open_index(index)
    found = nearest(opened.blocks, queries, count, dead=opened.dead)
    opened.pictures(found.rows[0].tolist())


if __name__ == "__main__":
    sys.exit(main())
