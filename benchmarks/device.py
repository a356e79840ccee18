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
import tempfile
from contextlib import ExitStack
from pathlib import Path

import torch

_spec = importlib.util.spec_from_file_location("_cvl_checkout", Path(__file__).parents[1] / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()

from clip_vae_lora.benchmarks.rows.bench import Bench, comfyui  # noqa: E402
from clip_vae_lora.benchmarks.rows.vae import decode, encode  # noqa: E402
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
from clip_vae_lora.lora.weights.fusing import Change, apply  # noqa: E402
from clip_vae_lora.tests.support.cards.pretended_card import pretend_cuda  # noqa: E402
from clip_vae_lora.training.device import best_device, named_device  # noqa: E402

LABELS = [f"a photo of the thing that has number {n}" for n in range(100)]
PROMPT = "a (weighted:1.3) prompt of (some:0.8) words, " * 6
WEIGHTS = {"SDXL": [(1280, 1280), (10240, 1280), (640, 640)], "Flux": [(3072, 3072), (12288, 3072)]}


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
                        "ours": lambda weight=weight, changes=changes: apply(weight, changes),
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
                    print(
                        title,
                        *(f"  {who:24} {in_words(found)}" for who, found in numbers.items()),
                        sep="\n",
                        flush=True,
                    )
    if options.json:
        device = str(bench.device) if bench.count is None else "pretended"
        print(json.dumps({"device": device, "torch": torch.__version__, "rows": table}, indent=1))


def in_words(numbers: dict) -> str:
    if "waits_for_a_size" in numbers:
        return f"waits for a size in {numbers['waits_for_a_size']}, and cannot be counted further"
    if "seconds" in numbers:
        return f"{numbers['seconds'] * 1000:.1f} ms"
    return "{kernels:,} kernels, {bus_mb:,.2f} MB over the bus in {moves:,} moves, {waits:,} waits".format(**numbers)


if __name__ == "__main__":
    main()
