"""One call of every node, with inputs as nodes get them: pictures, latents and masks on the CPU, models from files."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from clip_vae_lora.files.tensors import write_tensors

from . import tiny
from .diffusion import small_diffusion

ROOT = Path(__file__).resolve().parents[2]
SIDE_PX = 32
_EIGHT_BITS = {"rtol": 0, "atol": 0.02}  # of a drawn picture a few levels may turn over
DRAWN = {"CompareConditioning": _EIGHT_BITS, "ImageTextSimilarity": _EIGHT_BITS}  # node: tolerance of its pictures


def pictures(count: int, side_px: int = SIDE_PX, seed: int = 0, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, side_px, side_px, channels, generator=torch.Generator().manual_seed(seed))


def latent(count: int, seed: int = 0, side: int = SIDE_PX // 2) -> dict:
    return {"samples": torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(seed))}


def mask(count: int) -> torch.Tensor:
    return (pictures(count, seed=3)[..., 0] > 0.5).float()


def texts(count: int) -> str:
    return "\n".join(f"a photo of the number {number}" for number in range(count))


def prompt(chunks: int) -> str:
    """So long that it fills as many chunks, each with emphases of its own."""
    return " ".join(f"a (red:1.{number % 7}) circle number {number}" for number in range(14 * chunks))


def write_files(models: Path, inputs: Path) -> None:
    """A CLIP, the text encoders of SD1 and SDXL, a VAE and a LoRA."""
    tiny.clip_file(models / "clip_vision" / "clip.safetensors")
    tiny.clip_file(models / "text_encoders" / "both.safetensors")
    write_tensors(models / "text_encoders" / "text.safetensors", tiny.text_state(), {})
    tiny.vae_file(models / "vae" / "vae.safetensors")
    layers = [f"text_model.encoder.layers.{n}.self_attn.{name}_proj" for n in range(2) for name in "qkv"]
    tiny.lora_file(models / "loras" / "lora.safetensors", layers)
    inputs.mkdir(parents=True, exist_ok=True)


class Calls:
    """`call(node, n)`: that node with n of whatever it can have many of; models are loaded once, when first wanted.
    `inputs` is the folder that nodes find pictures in.
    """

    def __init__(self, nodes: Callable[[str], object], inputs: Path):
        self.node, self.inputs, self._loaded = nodes, inputs, {}

    def __call__(self, name: str, n: int = 2):
        return getattr(self, name)(self.node(f"CVL_{name}"), n)

    def loaded(self, name: str):
        if name not in self._loaded:
            self._loaded[name] = self(name)["result"][0]
        return self._loaded[name]

    @property
    def clip(self):
        return self.loaded("LoadTextEncoder")

    @property
    def clip_model(self):
        return self.loaded("LoadCLIPModel")

    @property
    def vae(self):
        return self.loaded("LoadVAE")

    def LoadTextEncoder(self, node, n):
        return node.load("text.safetensors", family="sd1")

    def TextEncode(self, node, n, **more):
        return node.encode(self.clip, prompt(n), **more)

    def LoadCLIPModel(self, node, n):
        return node.load("clip.safetensors")

    def ZeroShotClassify(self, node, n):
        return node.classify(self.clip_model, pictures(2), texts(8 * n), "a photo of a {}")

    def LoadVAE(self, node, n):
        return node.load("vae.safetensors", dtype="fp32")  # auto is bf16 on a card

    def VAEEncode(self, node, n, **more):
        return node.encode(pictures(n), self.vae, posterior="sample", seed=3, **more)

    def VAEDecode(self, node, n, **more):
        return node.decode(latent(n), self.vae, **more)

    def CompareImages(self, node, n):
        return node.compare(pictures(n), pictures(n, seed=1))

    def LoadLoRA(self, node, n):
        return node.load("lora.safetensors", 1.0, 0.8, clip=self.clip, clip_model=self.clip_model)

    def ExampleImage(self, node, n):
        return node.read(node.INPUT_TYPES()["required"]["picture"][0][0])

    def TextEncodeSDXL(self, node, n):
        sdxl = self.node("CVL_LoadTextEncoder").load("both.safetensors", "both.safetensors", "sdxl")["result"][0]
        return node.encode(sdxl, 512, 512, 0, 0, 512, 512, prompt(n), prompt(n))

    def InspectTokens(self, node, n):
        return node.inspect(self.clip, prompt(n))

    def CompareConditioning(self, node, n):
        first, second = (self("TextEncode", k)["result"][0] for k in (n, n))
        return node.compare(first, second)

    def CombineConditioning(self, node, n):
        first = self("TextEncode", n)["result"][0]
        return node.combine(first, first, "average", 0.5, 0.5)

    def SaveConditioning(self, node, n):
        return node.save(self("TextEncode", n)["result"][0], "cvl/test")

    def LoadConditioning(self, node, n):
        self("SaveConditioning", n)
        return node.load(node.INPUT_TYPES()["required"]["file"][0][-1])

    def VAEEncodeInpaint(self, node, n):
        return node.encode(pictures(n), self.vae, mask(n))

    def CompositeInpaint(self, node, n):
        return node.composite(pictures(n, 48), pictures(n, seed=1), mask(n))

    def LatentDistribution(self, node, n):
        return node.measure(pictures(n), self.vae)

    def LatentInterpolate(self, node, n):
        return node.interpolate(latent(n), latent(n, seed=1), 0.5, steps=n)

    def SamplePrior(self, node, n):
        return node.draw(64, 64, n, 5, "sd1")

    def LoRAStack(self, node, n):
        return node.load("\n".join(["lora.safetensors : 0.5"] * n), clip=self.clip)

    def LoRAInfo(self, node, n):
        return node.look("lora.safetensors")

    def ConvertLoRA(self, node, n):
        return node.convert("lora.safetensors", "peft", "cvl/lora", clip_model=self.clip_model)

    def ResizeLoRA(self, node, n):
        return node.resize("lora.safetensors", "rank", 1.0, "as it is", "as the files", "cvl/small")

    def ExtractLoRA(self, node, n):
        lora = self.node("CVL_LoadLoRA").load("lora.safetensors", 1.0, 1.0, clip=self.clip)["result"][1]
        settings = ("automatic", 4.0, 16, "kohya", "fp32", "cvl/extracted")
        return node.extract("none", "none", *settings, clip_tuned=lora, clip_base=self.clip)

    def MergeLoRAs(self, node, n):
        listed = "\n".join("lora.safetensors : 0.5" for _ in range(n))
        return node.merge(listed, "sum", "all", 0.0, "kohya", "as the files", "cvl/merged", clip_model=self.clip_model)

    def CompareLoRAs(self, node, n):
        listed = "\n".join(f"lora.safetensors : 0.{place + 1}" for place in range(n))
        return node.compare(listed, "those listed", clip_model=self.clip_model)

    def EditLoRA(self, node, n):
        return node.edit("lora.safetensors", "word", 0.5, "as the files", "as it is", "cvl/edited")

    def BakeLoRA(self, node, n):
        return node.bake("bundled/tiny_clip.safetensors", "bundled/tiny_clip_stripes_lora.safetensors", "cvl/baked")

    def EncodeImage(self, node, n):
        return node.encode(self.clip_model, pictures(n))

    def IndexFolder(self, node, n):
        folder = self.inputs / f"pictures {n}"
        folder.mkdir(exist_ok=True)
        for number in range(3 * n):
            Image.new("RGB", (20, 16), (number * 20, 255 - number * 20, 9)).save(folder / f"{number}.png")
        return node.build(self.clip_model, "input", folder.name, f"index {n}", batch=16)

    def SearchImages(self, node, n):
        self("IndexFolder", 1)
        return node.search(self.clip_model, "index 1", "a red circle", n, image=pictures(n))

    def FindDuplicates(self, node, n):
        self("IndexFolder", 1)
        return node.group("index 1", 0.5)

    def ImageTextSimilarity(self, node, n):
        return node.compare(self.clip_model, pictures(n), texts(4 * n), pictures(n, seed=1))

    def RankImages(self, node, n):
        return node.rank(self.clip_model, pictures(n), "a red circle", negative="blur", keep=1)

    def SelectLatents(self, node, n):
        return node.select(latent(n), indices="0")

    def ImageGate(self, node, n):
        return node.route(self.clip_model, pictures(n), "a red circle", 0.0)

    def VisualQuestion(self, node, n):
        return node.ask(self.clip_model, pictures(n), "what is it?", ", ".join(f"thing {k}" for k in range(4 * n)))

    def RankTags(self, node, n):
        return node.rank(self.clip_model, pictures(n), ", ".join(f"tag {k}" for k in range(6 * n)), keep=3)

    def Doctor(self, node, n):
        prompt = self("TextEncode", n)["result"][0]
        return node.examine(clip=self.clip, vae=self.vae, latent=latent(n), positive=prompt, image=pictures(n))

    def LoadDiffusionModel(self, node, n):
        return node.load("bundled/tiny_diffusion.safetensors", "fp32")

    def LearnLabels(self, node, n):
        folder = self.inputs / f"labelled {n}"
        for name in "abc":
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(n + 1):
                picture = pictures(1, 20, seed=10 * ord(name) + number)[0]
                Image.fromarray((picture * 255).byte().numpy()).save(folder / name / f"{number}.png")
        self.node("CVL_IndexFolder").build(self.clip_model, "input", folder.name, f"labelled {n}")
        return node.learn(self.clip_model, f"labelled {n}", "a\nb", held_out=0.0, method="probe", ask=n)

    def LoadLabels(self, node, n):
        return node.load(node.INPUT_TYPES()["required"]["file"][0][-1])

    def TrainLoRA(self, node, n):
        folder = self.inputs / f"captioned {n}"
        folder.mkdir(exist_ok=True)
        for number in range(n):
            Image.new("RGB", (SIDE_PX, SIDE_PX), (number * 20, 255 - number * 20, 9)).save(folder / f"{number}.png")
        inside = type(self.clip).__module__.startswith("comfy")  # then ComfyUI has loaded the pack under another name
        hosts = [name for name in sys.modules if name.endswith(".nodes.host")]
        host = next(sys.modules[name].host for name in hosts if name.startswith("clip_vae_lora.") != inside)
        model = host.make_model(small_diffusion.CONFIG, small_diffusion.state(), "fp32")
        numbers = {"steps": 2, "rank": 2, "learning_rate": 1e-3, "resolution": 64, "trigger": "sks", "seed": 1}
        return node.train(
            model, self.clip, self.vae, "input", folder.name, **numbers, filename_prefix="cvl/trained", batch=n
        )

    def TrainVAE(self, node, n):
        numbers = {"steps": 2, "crop": 16, "learning_rate": 1e-5, "seed": 1, "batch": n}
        return node.train(self.vae, "input", "", **numbers, filename_prefix="cvl/vae", image=pictures(n))

    def RescaleVAE(self, node, n):
        return node.rescale(self.vae, "cvl/fp16", pictures(n))

    def TrainCLIP(self, node, n):
        folder = self.inputs / f"classes {n}"
        for name in ("first", "second"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(n):
                picture = pictures(1, SIDE_PX, seed=10 * len(name) + number)[0]
                Image.fromarray((picture * 255).byte().numpy()).save(folder / name / f"{number}.png")
        numbers = {"steps": 2, "batch": 2 * n, "learning_rate": 1e-3, "seed": 1, "filename_prefix": "cvl/clip"}
        return node.train("input", folder.name, "FLYP", **numbers, clip_model=self.clip_model, held_out=0.0)


def tensors_of(value) -> list[torch.Tensor]:
    """All tensors in what a node gave, however deep."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for one in value.values() for tensor in tensors_of(one)]
    if isinstance(value, (list, tuple)):
        return [tensor for one in value for tensor in tensors_of(one)]
    if hasattr(value, "__dict__") and type(value).__name__ in ("Seen", "Output"):
        return tensors_of(vars(value))
    return []
