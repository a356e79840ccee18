"""The nodes and the names they are saved under. An id is for ever; inputs are only ever appended.

A node's file has a table NODES: id -> (class, title). A new node is a row there, and a new file a name in _FILES.
"""

from collections.abc import Iterable, Mapping

from . import image
from .clip import encode_image as image_encode
from .clip import judge, questions, similarity, zero_shot
from .clip import load as clip
from .conditioning import nodes as conditioning
from .host import host as this_host  # not `host`: that is the folder
from .lora import info as lora_info
from .lora import load as lora
from .lora import stack as lora_stack
from .routes import ROUTES
from .search import search_images as search
from .text import encode
from .text import load as text
from .vae import codec as vae
from .vae import inpaint, latents

_FILES = (
    text,
    encode,
    clip,
    zero_shot,
    vae,
    image,
    lora,
    conditioning,
    inpaint,
    latents,
    lora_stack,
    lora_info,
    image_encode,
    search,
    similarity,
    judge,
    questions,
)
_FIRST = (  # ids that come before all others, which follow in the order of their files
    "CVL_LoadTextEncoder",
    "CVL_TextEncode",
    "CVL_LoadCLIPModel",
    "CVL_ZeroShotClassify",
    "CVL_LoadVAE",
    "CVL_VAEEncode",
    "CVL_VAEDecode",
    "CVL_CompareImages",
    "CVL_LoadLoRA",
    "CVL_ExampleImage",
)


def merged(tables: Iterable[Mapping[str, tuple[type, str]]]) -> dict[str, tuple[type, str]]:
    """All nodes by id, in the order in which they are served.

    Raises:
        ValueError: two have one id.
    """
    rows = [row for table in tables for row in table.items()]
    found = dict(rows)
    if twice := [name for name, node in rows if found[name] is not node]:
        raise ValueError(f"an id of its own was expected for each node, but two are called {twice[0]}")
    return {name: found[name] for name in (*(name for name in _FIRST if name in found), *found)}


_NODES = merged(file.NODES for file in _FILES)
NODE_CLASS_MAPPINGS = {name: node for name, (node, _) in _NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {name: title for name, (_, title) in _NODES.items()}

this_host.serve(ROUTES)
