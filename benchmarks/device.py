"""On a graphics card: ours beside diffusers, transformers, open_clip and ComfyUI. Times, where there is a card; where
there is none, what one would be asked for: kernels, bytes over the bus, moves and waits (tests/support).

    [COMFYUI_PATH=/path/to/ComfyUI] python benchmarks/device.py [--device auto|pretended|cuda|...] [--only decode ...]
                                                                [--rounds 5] [--json]

All contenders of a row work on the same seeded input in one process, by turns, and the median of the rounds is given
beside the fastest peer's. Weights are random, in the published sizes: SD1's VAE in fp16, CLIP ViT-B/32, weights of SDXL
and Flux. Rows that only a clock can tell (pictures from files, a weighted prompt) are left out without a card.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.clip_core.config import PUBLISHED, TEXT_FAMILIES  # noqa: E402
from clip_vae_lora.clip_core.encoding.encode import Runner, encode_packed  # noqa: E402
from clip_vae_lora.clip_core.features.pictures import file_features  # noqa: E402
from clip_vae_lora.clip_core.features.texts import text_features  # noqa: E402
from clip_vae_lora.clip_core.networks.clip import CLIP  # noqa: E402
from clip_vae_lora.clip_core.networks.text import CLIPText  # noqa: E402
from clip_vae_lora.clip_core.prompts.plan import Port, PromptSettings, plan_prompt  # noqa: E402
from clip_vae_lora.clip_core.tokenizer import Tokenizer  # noqa: E402
from clip_vae_lora.files.pictures import read_square  # noqa: E402
from clip_vae_lora.lora.kinds.adapters import LoRA  # noqa: E402
from clip_vae_lora.lora.weights.fusing import Change, applied  # noqa: E402
from clip_vae_lora.nodes.host.alone import vae as standalone_vae  # noqa: E402
from clip_vae_lora.tests.support.card import cuda_that_answers  # noqa: E402
from clip_vae_lora.tests.support.pretended_card import pretend_cuda  # noqa: E402
from clip_vae_lora.training.device import best_device, named_device  # noqa: E402
from clip_vae_lora.vae_core.config import VAEConfig  # noqa: E402
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL  # noqa: E402
from clip_vae_lora.vae_core.tiling.work import Tiling  # noqa: E402

SD1 = VAEConfig(128, (1, 2, 4, 4), 2, 4, True)
WHOLE, LITTLE = 22_000_000_000, 3_000_000_000  # bytes free
LABELS = [f"a photo of the thing that has number {n}" for n in range(100)]
PROMPT = "a (weighted:1.3) prompt of (some:0.8) words, " * 6
WEIGHTS = {"SDXL": [(1280, 1280), (10240, 1280), (640, 640)], "Flux": [(3072, 3072), (12288, 3072)]}


class Bench:
    """Where a row is measured: a card with a clock, or the one that is not there and its counts."""

    def __init__(self, device: torch.device, count, rounds: int):
        self.device, self.count, self.rounds = device, count, rounds

    def draw(self, *shape: int, dtype: torch.dtype = torch.float32, on: str = "cpu") -> torch.Tensor:
        if self.count is not None:
            return torch.empty(shape, dtype=dtype, device=on)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(on, dtype)

    def measured(self, contenders: dict) -> dict[str, dict]:
        """name: (): what it does, tensors on the CPU in and out -> name: numbers. In inference mode, as nodes run."""
        with torch.inference_mode():
            return self._measured(contenders)

    def _measured(self, contenders: dict) -> dict[str, dict]:
        if self.count is not None:
            return {name: self._counted(work) for name, work in contenders.items()}
        seconds = {name: [] for name in contenders}
        for _ in range(self.rounds + 1):  # the first is for warming up
            for name, work in contenders.items():
                self._synchronise()
                begin = time.perf_counter()
                work()
                self._synchronise()
                seconds[name].append(time.perf_counter() - begin)
        return {name: {"seconds": statistics.median(all_of[1:])} for name, all_of in seconds.items()}

    def _counted(self, work) -> dict:
        self.count.reset()
        try:
            work()
        except DynamicOutputShapeException as error:
            return {"waits_for_a_size": str(error)}  # a card would wait here; without numbers nobody can go on
        count = self.count
        return {
            "kernels": count.kernels,
            "bus_mb": round(count.moved_bytes / 1e6, 2),
            "moves": count.moves,
            "waits": len(count.waits),
        }

    def _synchronise(self) -> None:
        if self.device.type in ("cuda", "xpu", "mps"):
            getattr(torch, self.device.type).synchronize()


@contextmanager
def free(bench: Bench, free_bytes: int):
    """So much memory is free on the card that is not there; a real one has what it has, held down to that."""
    with ExitStack() as stack:
        if bench.count is not None:
            stack.enter_context(patch.multiple(torch.cuda, **cuda_that_answers(free_bytes)))
        elif bench.device.type == "cuda":
            stack.enter_context(patch.object(torch.cuda, "mem_get_info", lambda device=None: (free_bytes, free_bytes)))
        stack.enter_context(patch.object(standalone_vae, "device", lambda: bench.device))
        yield


def our_vae(bench: Bench) -> standalone_vae.StandaloneVAE:
    network = AutoencoderKL(SD1, device=bench.device, dtype=torch.float16).eval().requires_grad_(False)
    return standalone_vae.StandaloneVAE(network)


def their_vaes(bench: Bench) -> dict:
    from diffusers import AutoencoderKL

    with torch.device(bench.device):
        found = {
            "diffusers": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                sample_size=512,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=4,
            )
        }
        if comfyui() is not None:
            from comfy.ldm.models.autoencoder import AutoencoderKL as Stock

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
            found["ComfyUI"] = Stock(ddconfig=numbers, embed_dim=4)
    for name, network in found.items():
        for module in network.modules():  # on the spot: a pretended network cannot be moved or cast as a whole
            for key, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[key] = torch.nn.Parameter(weight.detach().half(), requires_grad=False)
        found[name] = network.eval()
    return found


def comfyui() -> Path | None:
    """ComfyUI's folder, importable; None where none is named."""
    if not (path := os.environ.get("COMFYUI_PATH")):
        return None
    if path not in sys.path:
        sys.path.insert(0, path)
        before, sys.argv = sys.argv, ["main.py", *([] if torch.cuda.is_available() else ["--cpu"])]
        import comfy.options

        comfy.options.enable_args_parsing()
        importlib.import_module("comfy.model_management")  # reads the arguments

        sys.argv = before
    return Path(path)


def decode(bench: Bench):
    sizes = ((512, 1, WHOLE), (1024, 1, WHOLE), (2048, 1, WHOLE), (512, 8, WHOLE), (2048, 1, LITTLE))
    for px, count, free_bytes in sizes:
        z, ours, theirs = bench.draw(count, 4, px // 8, px // 8), our_vae(bench), their_vaes(bench)
        contenders = {"ours": lambda z=z, ours=ours: standalone_vae.decode_latent(ours, z, Tiling()).result}
        for name, network in theirs.items():

            def work(network=network, z=z):
                pixels = network.decode(z.half().to(bench.device))
                return getattr(pixels, "sample", pixels).cpu()

            contenders[name] = work
        with free(bench, free_bytes):
            yield f"VAE decode {count} x {px} px, {free_bytes / 1e9:.0f} GB free", bench.measured(contenders)


def encode(bench: Bench):
    image, ours, theirs = bench.draw(1, 1024, 1024, 3), our_vae(bench), their_vaes(bench)
    contenders = {"ours": lambda: standalone_vae.encode_image(ours, image, None, Tiling()).result}
    for name, network in theirs.items():

        def work(network=network):
            found = network.encode(image.movedim(-1, 1).half().to(bench.device) * 2 - 1)
            return (found.latent_dist.mean if hasattr(found, "latent_dist") else found).cpu()

        contenders[name] = work
    with free(bench, WHOLE):
        yield "VAE encode 1 x 1024 px, 22 GB free", bench.measured(contenders)


def labels(bench: Bench):
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    model = CLIP(PUBLISHED["ViT-B-32"], device=bench.device).eval().requires_grad_(False)
    with torch.device(bench.device):
        theirs = CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=512, intermediate_size=2048, projection_dim=512, num_attention_heads=8, eos_token_id=49407
            )
        ).eval()
        if bench.count is None:
            import open_clip

            second = open_clip.create_model("ViT-B-32-quickgelu").to(bench.device).eval()
    tokenizer = Tokenizer()
    rows = [tokenizer.encode(text) for text in LABELS]
    ids = torch.tensor([[49406, *row, *[49407] * (max(map(len, rows)) + 1 - len(row))] for row in rows])
    contenders = {
        "ours": lambda: text_features(model, tokenizer, LABELS).features,
        "transformers": lambda: theirs(input_ids=ids.to(bench.device)).text_embeds.cpu(),
    }
    if bench.count is None:
        padded = tokenizer.batch(LABELS, pad=0)[0]
        contenders["open_clip"] = lambda: second.encode_text(padded.to(bench.device), normalize=True).cpu()
    yield "features of 100 labels, ViT-B/32", bench.measured(contenders)


def fusing(bench: Bench):
    for model, shapes in WEIGHTS.items():
        for out, inner in shapes:
            weight = bench.draw(out, inner, dtype=torch.float16, on=str(bench.device))
            loras = [
                LoRA(bench.draw(out, 32, dtype=torch.float16), bench.draw(32, inner, dtype=torch.float16), 16.0)
                for _ in range(5)
            ]
            changes = [Change(lora, 0.7) for lora in loras]

            def stock(count, weight=weight, loras=loras):  # as ComfyUI's LoRAAdapter.calculate_weight
                changed = weight.float()
                for lora in loras[:count]:
                    up, down = (one.to(bench.device).float() for one in (lora.up, lora.down))
                    changed += (0.7 * 0.5 * torch.mm(up, down)).type(changed.dtype)
                return changed.half()

            yield (
                f"five LoRAs on a weight of {model}, {out} x {inner}",
                bench.measured(
                    {
                        "ours": lambda weight=weight, changes=changes: applied(weight, changes),
                        "stock way, five": lambda stock=stock: stock(5),
                        "stock way, one": lambda stock=stock: stock(1),
                    }
                ),
            )


def prompt(bench: Bench):
    """The two encoders of SDXL, emphases as ComfyUI puts them, against all chunks and the empty one in transformers."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer, ours, theirs = Tokenizer(), [], []
    for name in ("clip_l", "clip_g"):
        config = TEXT_FAMILIES[name]
        ours.append(CLIPText(config, dtype=torch.float16).to(bench.device).eval().requires_grad_(False))
        theirs.append(
            CLIPTextModelWithProjection(
                CLIPTextConfig(
                    hidden_size=config.width,
                    intermediate_size=config.mlp,
                    num_hidden_layers=config.layers,
                    num_attention_heads=config.heads,
                    projection_dim=config.embed or config.width,
                    hidden_act=config.activation,
                    eos_token_id=49407,
                )
            )
            .half()
            .to(bench.device)
            .eval()
        )

    ports = [
        Port(f"clip_{key}", key, model.config.width, 49407, 77, model.config.layers) for key, model in zip("lg", ours)
    ]

    def weighted():
        plan = plan_prompt(PROMPT, ports, PromptSettings())
        for key, model in zip("lg", ours):
            encode_packed(plan.parts[0].packed[key], Runner(model, layer=-2), plan.settings, device="cpu")

    def reference():
        ids = tokenizer.batch([PROMPT, ""])[0].to(bench.device)
        return [model(input_ids=ids, output_hidden_states=True).hidden_states[-2].cpu() for model in theirs]

    yield (
        "weighted prompt, SDXL",
        bench.measured(
            {
                "ours": weighted,
                "transformers, unweighted": reference,
            }
        ),
    )


def jpegs(bench: Bench, count: int = 1000):
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    model = CLIP(PUBLISHED["ViT-B-32"]).to(bench.device).eval().requires_grad_(False)
    theirs = CLIPVisionModelWithProjection(CLIPVisionConfig()).to(bench.device).eval()
    processor = CLIPImageProcessor()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.jpg" for n in range(count)]
        noise = torch.randint(0, 255, (30, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        for path in paths:
            Image.fromarray(noise.numpy()).resize((800, 600)).save(path)

        def reference():
            for begin in range(0, count, 64):
                pixels = processor([Image.open(path) for path in paths[begin : begin + 64]], return_tensors="pt")
                theirs(**pixels.to(bench.device)).image_embeds.cpu()

        yield (
            f"{count} JPEGs of 800 x 600 px, ViT-B/32",
            bench.measured(
                {
                    "ours": lambda: list(file_features(model, paths, read_square, batch=256)),
                    "transformers": reference,
                }
            ),
        )


ROWS = {"decode": decode, "encode": encode, "labels": labels, "fusing": fusing}
BY_THE_CLOCK = {"prompt": prompt, "jpegs": jpegs}


def bench_of(stack: ExitStack, options: argparse.Namespace) -> Bench:
    pretended = options.device == "pretended" or (options.device == "auto" and best_device().type == "cpu")
    if not pretended:
        stack.enter_context(torch.inference_mode())
        return Bench(named_device(options.device), None, options.rounds)
    comfyui()  # before: what it asks of a card at import is asked of a real one
    return Bench(torch.device("cuda", 0), stack.enter_context(pretend_cuda()), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="auto", help="auto: the card, or pretended; or cpu, cuda, xpu, mps")
    parser.add_argument("--only", nargs="+", choices=[*ROWS, *BY_THE_CLOCK], help="some of the rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = {}
    with ExitStack() as stack:
        bench = bench_of(stack, options)
        rows = ROWS if bench.count is not None else ROWS | BY_THE_CLOCK
        for name in options.only or rows:
            if name not in rows:
                raise SystemExit(f"{name} is told by the clock alone: it needs a card, or --device cpu")
            for title, numbers in rows[name](bench):
                table[title] = numbers
                if not options.json:
                    print(title, *(f"  {who:24} {told(found)}" for who, found in numbers.items()), sep="\n", flush=True)
    if options.json:
        device = str(bench.device) if bench.count is None else "pretended"
        print(json.dumps({"device": device, "torch": torch.__version__, "rows": table}, indent=1))


def told(numbers: dict) -> str:
    if "waits_for_a_size" in numbers:
        return f"waits for a size in {numbers['waits_for_a_size']}, and cannot be counted further"
    if "seconds" in numbers:
        return f"{numbers['seconds'] * 1000:.1f} ms"
    return "{kernels:,} kernels, {bus_mb:,.2f} MB over the bus in {moves:,} moves, {waits:,} waits".format(**numbers)


if __name__ == "__main__":
    main()
