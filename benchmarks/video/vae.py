"""Our Wan VAE beside diffusers' and ComfyUI's: time, peak memory, and how far from our untiled float32 result.

    COMFYUI_PATH=/path/to/ComfyUI python benchmarks/video/vae.py --px 256 --frames 1 17 --way decode encode

Every run is a process of its own with the same seeded random weights in the layout of Wan 2.1 and Qwen-Image (127
million; a smaller --channels divides time and memory), at work once after a small warm-up. Peak is resident memory
above what the process held before. The difference is the largest from our untiled result, as a share of its range.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[2] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.benchmarks.vae import reset_peak, status  # noqa: E402
from clip_vae_lora.vae_core.networks.wan import AutoencoderWan  # noqa: E402
from clip_vae_lora.vae_core.networks.wan_config import WanConfig  # noqa: E402
from clip_vae_lora.vae_core.tiling import plans, tiled  # noqa: E402

CONTENDERS = ["ours untiled", "ours auto", "diffusers untiled", "diffusers tiled", "comfyui untiled"]
LATENT = 16


def config(channels):
    widths = (channels, 2 * channels, 4 * channels, 4 * channels)
    return WanConfig(channels, widths, widths, latent=LATENT)


def weights(channels):
    torch.manual_seed(0)
    return AutoencoderWan(config(channels)).state_dict()


def given(way, px, frames):
    """Pixels [1, 3, T, H, W] or a latent [1, 16, t, h, w]."""
    generator = torch.Generator().manual_seed(1)
    if way == "encode":
        return torch.rand(1, 3, frames, px, px, generator=generator) * 2 - 1
    return torch.randn(1, LATENT, 1 + (frames - 1) // 4, px // 8, px // 8, generator=generator)


def ours(how, way, options):
    vae = AutoencoderWan(config(options.channels)).eval()
    vae.load_state_dict(weights(options.channels))
    if how == "untiled":
        return vae.encode if way == "encode" else vae.decode
    budget = None if options.budget_mb is None else options.budget_mb * 1_000_000

    def by_plan(values):
        sized, cells = vae.sized(vae.config, way, values.shape)
        plan = plans.largest_plan(sized, cells, budget, 4, way=way)
        print(f"{values.shape}: {plan}; untiled {plans.untiled_plan(sized, cells, 4, way=way)}", file=sys.stderr)
        tile = tuple(options.tile) if options.tile else plan.tile
        if tile is None:
            return vae.encode(values) if way == "encode" else vae.decode(values)
        return tiled.encode(vae, values, tile).mean if way == "encode" else tiled.decode(vae, values, tile)

    return by_plan


def diffusers(how, way, options):
    from diffusers import AutoencoderKLWan

    from clip_vae_lora.vae_core.checkpoint.find import find_vae

    model = AutoencoderKLWan(base_dim=options.channels).eval()
    known = weights(options.channels)
    renames = find_vae({name: tuple(t.shape) for name, t in model.state_dict().items()}).renames
    model.load_state_dict({theirs: known[ours] for theirs, ours in renames.items()})
    if how == "tiled":
        model.enable_tiling()
    if way == "encode":
        return lambda pixels: model.encode(pixels).latent_dist.mean
    return lambda z: model.decode(z).sample


def comfyui(how, way, options):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    sys.argv = sys.argv[:1] + ["--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    from comfy.ldm.wan.vae import WanVAE

    model = WanVAE(dim=options.channels, z_dim=LATENT, temperal_downsample=[False, True, True]).eval()
    model.load_state_dict(weights(options.channels))
    model.requires_grad_(False)
    return model.encode if way == "encode" else model.decode


def one(name, options):
    """In a process of its own: at work once, writes the result to --out, prints seconds and bytes."""
    who, how = name.split()
    way, px, frames = options.way[0], options.px[0], options.frames[0]
    work = {"ours": ours, "diffusers": diffusers, "comfyui": comfyui}[who](how, way, options)
    values = given(way, px, frames)
    work(given(way, 64, 1))
    reset_peak()
    before, started = status("VmRSS"), time.perf_counter()
    found = work(values)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak": status("VmHWM") - before}))
    torch.save(found, options.out)


def run(name, way, px, frames, out, options):
    python = options.comfyui_python if name.startswith("comfyui") else sys.executable
    passed = {"--one": name, "--way": way, "--px": px, "--frames": frames, "--out": out}
    passed |= {"--threads": options.threads, "--channels": options.channels}
    more = ["--budget-mb", str(options.budget_mb)] if options.budget_mb else []
    more += ["--tile", *map(str, options.tile)] if options.tile else []
    command = [python, __file__, *(str(part) for pair in passed.items() for part in pair), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    if options.plans and done.stderr:
        print(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def compare(way, px, frames, options, folder):
    names = options.only or CONTENDERS
    names = [name for name in names if "comfyui" not in name or os.environ.get("COMFYUI_PATH")]
    names = ["ours untiled", *(name for name in names if name != "ours untiled")]
    print(f"\n{way}, {px} px, {frames} frames, {options.channels} channels, {options.threads} threads")
    print("| | seconds | peak MB | largest difference |\n|---|---|---|---|")
    wanted = None
    for name in names:
        found = run(name, way, px, frames, folder / "result.pt", options)
        result = torch.load(folder / "result.pt", weights_only=True)
        result = torch.cat(result, 2) if isinstance(result, list) else result
        if name.startswith("diffusers") and way == "decode":
            wanted = wanted.clamp(-1, 1)  # as diffusers does
        wanted = result if wanted is None else wanted
        difference = (result - wanted).abs().max().item() / (wanted.max() - wanted.min()).item()
        print(f"| {name} | {found['seconds']:.1f} | {found['peak'] / 1e6:,.0f} | {difference:.1e} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--px", type=int, nargs="+", default=[256])
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 17])
    parser.add_argument("--way", nargs="+", default=["decode", "encode"], choices=["decode", "encode"])
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget-mb", type=int, help="the budget of our plan instead of what is worth having")
    parser.add_argument("--tile", type=int, nargs=2, help="height and width in latent cells instead of the plan's")
    parser.add_argument("--plans", action="store_true", help="print our plans")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS)
    parser.add_argument("--comfyui-python", default=sys.executable, help="the interpreter ComfyUI is installed for")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if options.one:
        return one(options.one, options)
    with tempfile.TemporaryDirectory() as folder:
        for way in options.way:
            for px in options.px:
                for frames in options.frames:
                    compare(way, px, frames, options, Path(folder))


if __name__ == "__main__":
    main()
