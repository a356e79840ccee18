"""The nodes and the names they are saved under. An id is for ever; inputs are only ever appended.

A node's file has a table NODES: id -> (class, title), and its theme merges those of its files. A new node is a row
there, and a new file a row in its theme's `__init__`.
"""

from collections.abc import Iterable, Mapping

from . import clip, conditioning, doctor, image, labels, lora, model, search, text, training, vae, workshop
from .host import host as this_host  # not `host`: that is the folder
from .reports import at_the_edge
from .routes import ROUTES

_THEMES = (text, conditioning, clip, vae, image, lora, search, doctor, workshop, training, model, labels)
_SERVED = (  # the order in which version 0.1 served its nodes; later ones follow in the order of their themes
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
    "CVL_TextEncodeSDXL",
    "CVL_InspectTokens",
    "CVL_CompareConditioning",
    "CVL_CombineConditioning",
    "CVL_SaveConditioning",
    "CVL_LoadConditioning",
    "CVL_VAEEncodeInpaint",
    "CVL_CompositeInpaint",
    "CVL_LatentDistribution",
    "CVL_LatentInterpolate",
    "CVL_SamplePrior",
    "CVL_LoRAStack",
    "CVL_LoRAInfo",
    "CVL_ConvertLoRA",
    "CVL_EncodeImage",
    "CVL_IndexFolder",
    "CVL_SearchImages",
    "CVL_FindDuplicates",
    "CVL_ImageTextSimilarity",
    "CVL_RankImages",
    "CVL_SelectLatents",
    "CVL_ImageGate",
    "CVL_VisualQuestion",
    "CVL_RankTags",
    "CVL_Doctor",
    "CVL_MergeLoRAs",
    "CVL_CompareLoRAs",
    "CVL_EditLoRA",
    "CVL_BakeLoRA",
    "CVL_ResizeLoRA",
    "CVL_ExtractLoRA",
    "CVL_TrainLoRA",
    "CVL_LoadDiffusionModel",
    "CVL_LearnLabels",
    "CVL_LoadLabels",
    "CVL_TrainVAE",
    "CVL_TrainCLIP",
    "CVL_RescaleVAE",
)


def merge_tables(tables: Iterable[Mapping[str, tuple[type, str]]]) -> dict[str, tuple[type, str]]:
    """All nodes by id, in the order in which they are served.

    Raises:
        ValueError: two have one id.
    """
    rows = [row for table in tables for row in table.items()]
    found = dict(rows)
    if twice := [name for name, node in rows if found[name] is not node]:
        raise ValueError(f"an id of its own was expected for each node, but two are called {twice[0]}")
    return {name: found[name] for name in (*(name for name in _SERVED if name in found), *found)}


NODES = merge_tables(theme.NODES for theme in _THEMES)
NODE_CLASS_MAPPINGS = {name: at_the_edge(node) for name, (node, _) in NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {name: title for name, (_, title) in NODES.items()}

this_host.serve(ROUTES)
