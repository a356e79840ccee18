"""Embeds a folder of pictures into an index, alone or on many processes and machines, as Index Folder (CVL) does:

    python headless/embed.py FOLDER --model FILE --index output/cvl_index/NAME
    torchrun --nproc-per-node 8 headless/embed.py FOLDER --model FILE --index output/cvl_index/NAME

Under torchrun every process encodes parts of what is new and writes shards of its own; the first one joins them into
the index. On several machines (torchrun --nnodes ...) FOLDER and the index must be folders that all of them share.
Interrupted at any moment, the same command goes on: a finished shard is never done again. Search Images (CVL) finds
the index by its NAME, if FOLDER lies below ComfyUI's output or input folder.
"""

import argparse
import runpy
import sys
import time
from pathlib import Path

import torch

if "clip_vae_lora" not in sys.modules:
    runpy.run_path(str(Path(__file__).with_name("checkout.py")))["bind"]()

from clip_vae_lora.clip_core.networks.precision import EXACT, PRECISIONS
from clip_vae_lora.headless.progress import Progress
from clip_vae_lora.index.scan import scan
from clip_vae_lora.index.shards import Picture, write_shard
from clip_vae_lora.index.table import Facts
from clip_vae_lora.index.update import Embed, entries_of, finish, prepare
from clip_vae_lora.index.writing import writing
from clip_vae_lora.nodes.clip.load import load_clip_model
from clip_vae_lora.nodes.host.alone import place
from clip_vae_lora.nodes.search import indexing
from clip_vae_lora.nodes.search.indexing import Embedder
from clip_vae_lora.training.device import named_device
from clip_vae_lora.training.distributed import ProcessGroup, join_group, own_device


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """0 when the index is up to date, 1 when it could not be made, 130 when interrupted."""
    options = _options(arguments, prog)
    progress = Progress(sys.stderr)
    try:
        device = own_device(named_device(options.device))
        place.set_device(device)
        with join_group(device) as group:
            return _run(options, group, progress)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        progress.close()


def _options(arguments: list[str] | None, prog: str | None) -> argparse.Namespace:
    what = "Embed a folder of pictures into an index, also under torchrun."
    parser = argparse.ArgumentParser(prog=prog, description=what)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the pictures")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="a file with both halves of a CLIP")
    parser.add_argument(
        "--index",
        type=Path,
        required=True,
        metavar="DIR",
        help="the index's folder; ComfyUI's are output/cvl_index/NAME",
    )
    parser.add_argument("--flat", action="store_true", help="leave out the folders below it")
    parser.add_argument("--batch", type=int, default=32, help="pictures encoded at a time (default 32)")
    parser.add_argument("--every", type=int, default=512, help="pictures in a shard (default 512)")
    parser.add_argument("--workers", type=int, help="threads that read pictures (default: one for each core)")
    parser.add_argument("--activation", choices=["auto", "quick_gelu", "gelu"], default="auto")
    parser.add_argument("--device", default="auto", help="auto (the card, where there is one), cpu, cuda, xpu or mps")
    parser.add_argument("--dtype", choices=["auto", "fp32", "fp16", "bf16"], default="auto", help="of the weights")
    parser.add_argument(
        "--precision",
        choices=list(PRECISIONS),
        help="of the activations: fp32 is exact, fp16 and "
        "bf16 use tensor cores (default: as --dtype, and fp32 for auto)",
    )
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, group: ProcessGroup, progress: Progress) -> int:
    if min(options.batch, options.every, options.workers or 1) < 1:
        raise ValueError("--batch, --every and --workers must be 1 or more")
    if not options.folder.is_dir():
        raise ValueError(f"there is no folder {options.folder}; give the folder with the pictures")
    model, _, _ = load_clip_model(options.model, options.activation, options.dtype)
    precision = options.precision or (EXACT if options.dtype == "auto" else options.dtype)
    embed = indexing.Embedder(model, options.batch, options.workers, precision)
    facts = indexing.facts_of(model, embed.encoder, options.index, options.folder, precision)
    if group.first:
        progress.node(f"{options.folder} with {facts.model_name}, {group.size} processes")
        return _lead(options, group, facts, embed, progress)
    return _follow(options, group, embed)


def _lead(options: argparse.Namespace, group: ProcessGroup, facts: Facts, embed: Embedder, progress: Progress) -> int:
    """The first process: it alone changes the table. The others are told None where it cannot begin."""
    begin, shared = time.perf_counter(), False
    try:
        with writing(options.index, facts) as writer:
            found = scan(options.folder, recursive=not options.flat, left_out=_left_out(options.index))
            differ = prepare(writer, found)
            todo, key = group.share(([*differ.new, *differ.changed], writer.facts.model_key))
            shared = True
            problems = group.gather(_embed_share(options, group, key, todo, embed, progress))
            embedded = writer.adopt()
            if any(problems):
                raise ValueError(f"{next(filter(None, problems))}; {len(todo) - embedded} pictures remain to be done")
            done = finish(writer, found, differ, embedded)
            lines, _ = indexing.report_of(done, time.perf_counter() - begin, embed, found)
    finally:
        if not shared:
            group.share(None)
    print("\n".join(lines))
    return 0


def _follow(options: argparse.Namespace, group: ProcessGroup, embed: Embedder) -> int:
    nothing: tuple[list[Picture], str] | None = None
    shared = group.share(nothing)
    if shared is None:
        return 1  # the first process has said why
    todo, key = shared
    problem = _embed_share(options, group, key, todo, embed, Progress(sys.stderr, quiet=True))
    group.gather(problem)
    return 1 if problem else 0


def _embed_share(
    options: argparse.Namespace,
    group: ProcessGroup,
    model_key: str,
    todo: list[Picture],
    embed: Embed,
    progress: Progress,
) -> str:
    """Every group.size-th stretch of the pictures, a shard for each; why it could not be finished, or ""."""
    mine = range(group.rank * options.every, len(todo), group.size * options.every)
    try:
        for number, start in enumerate(mine, 1):
            _embed_shard(options, model_key, todo[start : start + options.every], embed)
            progress.step(number, len(mine))
    except (ValueError, OSError) as error:
        return f"process {group.rank}: {error}"
    return ""


def _embed_shard(options: argparse.Namespace, model_key: str, pictures: list[Picture], embed: Embed) -> None:
    entries, parts, rows = [], [], 0
    for batch in embed([options.folder / picture.path for picture in pictures]):
        new, features = entries_of(pictures, batch, rows)
        entries += new
        parts.append(features)
        rows += len(features)
    write_shard(options.index, entries, torch.cat(parts), model_key)


def _left_out(index: Path) -> list[Path]:
    return [index, *([index.parent] if index.absolute().parent.name == "cvl_index" else [])]


if __name__ == "__main__":
    sys.exit(main())
