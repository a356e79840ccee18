"""Our autoencoder beside diffusers' and ComfyUI's: time, peak memory, and how far from the untiled result.

    COMFYUI_PATH=/path/to/ComfyUI python benchmarks/vae.py --px 512 1024 --rounds 3 --picture seams.png

Every run is a process of its own with the same seeded random weights in the SD1 layout (84 million), decoding the same
latent once after a small warm-up; rounds alternate between the contenders. Peak is resident memory above what the
process held before; of "ours apart" it is what the device alone would hold (vae_apart.py). The difference is the
largest from our untiled float32 result, as a share of that one's range.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.benchmarks.vae_apart import ApartSweeps, OwnMemoryPeak  # noqa: E402
from clip_vae_lora.vae_core.checkpoint.find import find_vae  # noqa: E402
from clip_vae_lora.vae_core.config import VAEConfig  # noqa: E402
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL  # noqa: E402
from clip_vae_lora.vae_core.quality import amplified_difference  # noqa: E402
from clip_vae_lora.vae_core.tiling import card_plans, plans, tiled  # noqa: E402

CONFIG = VAEConfig(128, (1, 2, 4, 4), 2, 4, True)
CONTENDERS = ["ours untiled", "ours auto", "diffusers untiled", "diffusers tiled", "comfyui untiled", "comfyui tiled"]
BUDGETED = ["ours budget", "ours apart"]  # with --budget-mb; apart: the budget is the device's alone
TILE_CELLS, OVERLAP_CELLS, GAIN = 64, 16, 100


def weights():
    torch.manual_seed(0)
    return AutoencoderKL(CONFIG).state_dict()


def latent(px, dtype):
    return torch.randn(1, CONFIG.latent, px // 8, px // 8, generator=torch.Generator().manual_seed(1)).to(dtype)


def ours(how, px, dtype, options):
    vae = AutoencoderKL(CONFIG).eval()
    vae.load_state_dict(weights())
    vae.to(dtype)
    if how == "untiled":
        return vae.decode
    apart = how == "apart"
    if apart:
        tiled.Sweeps = ApartSweeps
    budget = options.budget_mb * 1_000_000 if how in ("budget", "apart") else None
    shape = (1, CONFIG.latent, px // 8, px // 8)
    plan = (
        card_plans.card_plan(CONFIG, shape, card_plans.Limit(budget, "the budget"), dtype.itemsize)
        if apart
        else plans.largest_plan(CONFIG, shape, budget, dtype.itemsize)
    )
    tile = options.tile or plan.tile
    return (lambda z: tiled.decode(vae, z, tile)) if tile else vae.decode


def diffusers(how, px, dtype, options):
    from diffusers import AutoencoderKL as Theirs

    model = Theirs(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=8 * TILE_CELLS,
    ).eval()
    shapes, known = {name: t.shape for name, t in model.state_dict().items()}, weights()
    renames = find_vae(shapes).renames
    model.load_state_dict({theirs: known[ours].reshape(shapes[theirs]) for theirs, ours in renames.items()})
    model.to(dtype)
    if how == "tiled":
        model.enable_tiling()
    return lambda z: model.decode(z).sample


def comfyui(how, px, dtype, options):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    sys.argv = sys.argv[:1] + ["--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils
    from comfy.ldm.models.autoencoder import AutoencoderKL as Theirs

    numbers = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    model = Theirs(ddconfig=numbers, embed_dim=4).eval()
    model.load_state_dict(weights())
    model.requires_grad_(False).to(dtype)
    if how == "untiled":
        return model.decode

    def averaged(z):  # as comfy/sd.py's decode_tiled_: three passes with tiles of three shapes
        shapes = ((TILE_CELLS // 2, TILE_CELLS * 2), (TILE_CELLS * 2, TILE_CELLS // 2), (TILE_CELLS, TILE_CELLS))
        passes = (
            comfy.utils.tiled_scale(
                z, lambda part: model.decode(part).float(), width, height, OVERLAP_CELLS, upscale_amount=8
            )
            for width, height in shapes
        )
        return sum(passes) / 3

    return averaged


def one(name, px, dtype, options):
    """In a process of its own: decodes once, writes pixels to --out, prints seconds and bytes."""
    who, how = name.split()
    decode = {"ours": ours, "diffusers": diffusers, "comfyui": comfyui}[who](how, px, dtype, options)
    z = latent(px, dtype)
    decode(latent(64, dtype))
    reset_peak()
    kind = "RssAnon" if how == "apart" else "VmRSS"
    before, watched, started = status(kind), OwnMemoryPeak() if how == "apart" else None, time.perf_counter()
    pixels = decode(z)
    seconds = time.perf_counter() - started
    peak = (watched.stop() if watched else status("VmHWM")) - before
    torch.save(pixels.float(), options.out)
    print(json.dumps({"seconds": seconds, "peak": peak}))


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def run(name, px, dtype, out, options):
    python = options.comfyui_python if name.startswith("comfyui") else sys.executable
    more = ["--tile", *map(str, options.tile)] if options.tile else []
    more += ["--budget-mb", str(options.budget_mb)] if options.budget_mb else []
    done = subprocess.run(
        [
            python,
            __file__,
            "--one",
            name,
            "--px",
            str(px),
            "--dtype",
            dtype,
            "--out",
            str(out),
            "--threads",
            str(options.threads),
            *more,
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(px, dtype, options, folder):
    names = options.only or CONTENDERS + (BUDGETED if options.budget_mb else [])
    names = [name for name in names if "comfyui" not in name or os.environ.get("COMFYUI_PATH")]
    found, exact = {name: [] for name in names}, folder / "exact.pt"
    run("ours untiled", px, "float32", exact, options)
    for _ in range(options.rounds):
        for name in names:
            found[name].append(run(name, px, dtype, folder / f"{name}.pt", options))
    wanted = torch.load(exact, weights_only=True)
    reach = (wanted.max() - wanted.min()).item()
    print(f"\n{px} px, {dtype}, {options.threads} threads, median of {options.rounds}")
    print("| | seconds | peak MB | largest difference |\n|---|---|---|---|")
    for name in names:
        seconds, peak = (statistics.median(r[key] for r in found[name]) for key in ("seconds", "peak"))
        pixels = torch.load(folder / f"{name}.pt", weights_only=True)
        print(
            f"| {name} | {seconds:.2f} | {peak / 1e6:,.0f} | {(pixels - wanted).abs().max().item() / reach:.1e} |",
            flush=True,
        )
    if options.picture:
        shown = [name for name in names if not name.endswith("untiled")]
        seams(wanted, [torch.load(folder / f"{name}.pt", weights_only=True) for name in shown], options.picture)
        print(f"{options.picture}: difference x {GAIN} of " + ", ".join(shown))


def seams(wanted, others, path):
    """Writes the amplified differences side by side, white lines between them."""
    from PIL import Image

    low, high = wanted.min(), wanted.max()
    gap, strips = torch.ones(3, wanted.shape[2], 8), []
    for other in others:
        strips += [amplified_difference((other[0] - low) / (high - low), (wanted[0] - low) / (high - low), GAIN), gap]
    picture = torch.cat(strips[:-1], 2).permute(1, 2, 0).mul(255).round().byte()
    Image.fromarray(picture.numpy()).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--px", type=int, nargs="+", default=[512])
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tile", type=int, nargs=2, help="height and width in latent cells instead of auto's")
    parser.add_argument("--budget-mb", type=int, help="adds our decode under this budget, and with it for the device")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS + BUDGETED)
    parser.add_argument("--comfyui-python", default=sys.executable, help="the interpreter ComfyUI is installed for")
    parser.add_argument("--picture", help="write the seams here, as PNG")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if options.one:
        return one(options.one, options.px[0], getattr(torch, options.dtype[0]), options)
    with tempfile.TemporaryDirectory() as folder:
        for px in options.px:
            for dtype in options.dtype:
                compare(px, dtype, options, Path(folder))


if __name__ == "__main__":
    main()
