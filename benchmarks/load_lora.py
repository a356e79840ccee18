"""How long Load LoRA takes beside ComfyUI's LoraLoader, on models of real widths, in a real ComfyUI.

    COMFYUI_PATH=/path/to/ComfyUI python benchmarks/load_lora.py [--model sdxl flux] [--rank 16] [--rounds 5] [--json]

The weights are memory that was asked for and never written (fp16 for SDXL, fp8 for Flux) but for the few rows that the
report samples, which are small random numbers. So whatever else is read of them appears in the resident memory of the
process: "grown" is by how much it grew at ours, the LoRA's own tensors included.
"cpu_s" is the processor's time, which other work on the machine does not lengthen.
"cold" is the first load of a file (which is in the page cache), "again" the same file a second time on the same model.
The stock loader maps the file and leaves its numbers unread until they are patched in; ours reads and checks them.
"""

import argparse
import asyncio
import importlib.util
import inspect
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.files.tensors import write_tensors  # noqa: E402

SDXL = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2],
    "channel_mult": (1, 2, 4), "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "num_head_channels": 64, "context_dim": 2048,
    "use_spatial_transformer": True, "legacy": False, "adm_in_channels": 2816, "num_classes": "sequential",
    "dtype": torch.float16, "use_linear_in_transformer": True, "use_temporal_attention": False,
}  # fmt: skip
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "patch_size": 2,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "dtype": torch.float8_e4m3fn,
}


def host(base):
    """ComfyUI with our pack in it: its table of nodes."""
    for folder in ("loras", "checkpoints", "text_encoders"):
        (base / "models" / folder).mkdir(parents=True, exist_ok=True)
    (base / "custom_nodes").mkdir()
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        raise SystemExit("set COMFYUI_PATH to the folder of a ComfyUI checkout")
    before, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base), "--disable-api-nodes"]
    sys.path.insert(0, path)
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401  before `nodes`, which puts comfy/ on sys.path, where another `utils` lies

    import nodes

    sys.argv = before
    asyncio.run(nodes.load_custom_node(str(ROOT)))
    return nodes.NODE_CLASS_MAPPINGS, sys.modules[str(ROOT).replace(".", "_x_")]


def model_of(name):
    import comfy.ldm.flux.model
    import comfy.model_patcher
    import comfy.supported_models

    kind, unet = (comfy.supported_models.SDXL, SDXL) if name == "sdxl" else (comfy.supported_models.Flux, FLUX)
    unet = dict(unet)
    if name == "flux" and "txt_ids_dims" in inspect.signature(comfy.ldm.flux.model.FluxParams).parameters:
        unet["txt_ids_dims"] = []
    config = kind(unet)
    config.set_inference_dtype(unet["dtype"], torch.bfloat16 if name == "flux" else None)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(config.get_model({}, "", device="cpu"), cpu, cpu)


def fill_sampled_rows(model, rows_of):
    """Numbers where the report looks: memory that was never written may hold anything, NaN too."""
    generator = torch.Generator().manual_seed(0)
    for weight in model.model.parameters():
        rows = rows_of(weight.detach())
        rows.copy_(torch.randn(rows.shape, generator=generator) * 0.05)


def write(path, model, rank):
    """kohya's file for every Linear of the transformer blocks."""
    import comfy.lora

    keys, tensors, seen = comfy.lora.model_lora_keys_unet(model.model, {}), {}, set()
    state = model.model_state_dict()
    for name, key in keys.items():
        wanted = name.startswith("lora_unet_") and isinstance(key, str) and key in state and key not in seen
        if wanted and state[key].ndim == 2 and "blocks" in key and "norm" not in key:
            seen.add(key)
            out, inner = state[key].shape
            tensors[f"{name}.lora_up.weight"] = torch.randn(out, rank).half() * 0.01
            tensors[f"{name}.lora_down.weight"] = torch.randn(rank, inner).half()
            tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    write_tensors(path, tensors, {"ss_network_dim": str(rank)})
    return len(seen)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measured(name, given, base, table, ours):
    model, path = model_of(name), base / "models" / "loras" / f"{name}.safetensors"
    fill_sampled_rows(model, sys.modules[f"{ours.__name__}.lora.weights.measuring"]._rows)
    modules = write(path, model, given.rank)
    times, processor = ({"stock": [], "cold": [], "again": []} for _ in range(2))

    def timed(which, work):
        start, worked = time.perf_counter(), time.process_time()
        result = work()
        times[which].append(time.perf_counter() - start)
        processor[which].append(time.process_time() - worked)
        return result

    grown = 0
    kept = sys.modules[f"{ours.__name__}.lora.weights.patching"]._sizes
    for _ in range(given.rounds):
        timed("stock", lambda: table["LoraLoader"]().load_lora(model, None, path.name, 1.0, 0.0))
        node = table["CVL_LoadLoRA"]()  # another one, which keeps no file
        kept.clear()
        before = resident_bytes()
        timed("cold", lambda node=node: node.load(path.name, 1.0, 0.0, model=model))
        grown = max(grown, resident_bytes() - before)
        told = timed("again", lambda node=node: node.load(path.name, 0.9, 0.0, model=model))["ui"]["text"][0]
    medians = {which: statistics.median(taken) for which, taken in times.items()}
    return {
        "model": name,
        "modules": modules,
        "rank": given.rank,
        "file_mb": path.stat().st_size / 1e6,
        "weights_mb": sum(w.nbytes for w in model.model_state_dict().values()) / 1e6,
        "seconds": medians,
        "first_s": {which: taken[0] for which, taken in times.items()},
        "allowed_s": 1.2 * medians["stock"] + 0.1,
        "best_s": {which: min(taken) for which, taken in times.items()},
        "cpu_s": {which: statistics.median(taken) for which, taken in processor.items()},
        "best_cpu_s": {which: min(taken) for which, taken in processor.items()},
        "grown_mb": grown / 1e6,
        "told": next((line for line in told.splitlines() if "the change is" in line), ""),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["sdxl", "flux"], choices=["sdxl", "flux"])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        table, ours = host(Path(folder))
        for name in given.model:
            found = measured(name, given, Path(folder), table, ours)
            if given.json:
                print(json.dumps(found))
                continue
            seconds = found["seconds"]
            print(
                f"{name}: {found['modules']} modules of rank {given.rank}, file {found['file_mb']:.0f} MB, weights "
                f"{found['weights_mb']:,.0f} MB; LoraLoader {seconds['stock']:.3f} s, "
                f"Load LoRA {seconds['cold']:.3f} s (allowed {found['allowed_s']:.3f}), "
                f"again {seconds['again']:.3f} s; grown {found['grown_mb']:.0f} MB"
            )
            print(f"  {found['told']}")


if __name__ == "__main__":
    main()
