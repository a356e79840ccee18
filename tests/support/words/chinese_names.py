"""English words that Chinese users of this field write as they are; any other one in a Chinese text was left behind."""

import re

QUOTED = re.compile(  # what is typed as it stands, an example, data, a gloss behind a Chinese word
    r"`[^`]*`|\[[^\]]*\]|'[^']*'|\"[^\"]*\"|“[^”]*”|\{[^}]*\}|\([^)]*\)|(?<!\*)\*[^*\n]+\*(?!\*)|(?<=[一-鿿])（[a-z-]+）"
)
WORD = re.compile(r"(?<![\w./\\:<>_-])[A-Za-z][a-z]+(?![\w/\\_<>-]|\.\w)")  # no part of a file's or a tensor's name
NAMES = frozenset(
    # of models, families, networks and their parts
    "Stable Diffusion Cascade Stage Audio Video Flux Lumina Chroma Wan Qwen Mochi Cosmos Sana Llama "
    "Transformer Refiner Medium Large transformer Linear Textual Inversion Vision Encode "
    "Base Giant Boogu Krea Kandinsky Anima Ovis Klein Schnell Turbo Lightning Adafactor Wang "
    # of programs, companies, libraries, formats
    "Hugging Face Git Keras Flax Windows Radiance Photoshop Matroska Pillow Python Nunchaku kohya peft diffusers timm "
    "cloneofsimo quanto bitsandbytes transformers safetensors tokenizers sentencepiece matplotlib pickle zip tar gzip "
    "comfy compel torchrun Esc Tab Alt Enter Shift jpg jpeg webp "
    # of ways to merge, of VAEs
    "ties dare della slerp taesd taesdxl "
    # of the field
    "Latent Checkpoint Token token tokens embedding px id alpha Alpha nats softmax bicubic gelu logit gamma hook hooks "
    "meta dropout clip skip Neumann Prodigy dtype shape "
    # of folders and of what lies in them
    "input output loras".split()
)


def english_words(text: str, quoted: re.Pattern[str] = QUOTED) -> list[str]:
    """The English words of a text that are neither names nor quoted."""
    return [word for word in WORD.findall(quoted.sub(" ", text)) if word not in NAMES]
