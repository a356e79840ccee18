"""Who may import whom, and how big things may be: the rules of the house, read from the source with `ast`."""

import ast
from functools import cache
from pathlib import Path

import pytest

from .support.source.circles import circles

ROOT = Path(__file__).resolve().parents[1]
LEAVES = {"clip_core", "vae_core", "lora", "diffusion", "files", "drawing", "doctor"}
MAY_IMPORT = {
    **{leaf: set() for leaf in LEAVES},
    "index": {"files"},
    "training": LEAVES,
    "nodes": LEAVES | {"index", "training"},
    "headless": LEAVES | {"index", "training", "nodes"},
    "__main__.py": {"headless"},
}
HOST_MODULES = set("comfy comfy_execution comfy_extras comfy_api folder_paths execution server node_helpers".split())
STARTS_THE_HOST = (
    "headless/training/in_comfyui.py"  # brings a ComfyUI into this process, before the adapter looks for it
)
OUTSIDE = {  # what each folder may import from outside the pack, beside the standard library
    "clip_core": {"torch", "ftfy", "regex"},
    "vae_core": {"torch"},
    "lora": {"torch"},
    "diffusion": {"torch"},
    "files": {"torch", "safetensors", "numpy", "PIL", "tokenizers", "sentencepiece"},
    "drawing": {"torch", "numpy", "PIL", "matplotlib"},
    "doctor": set(),
    "index": {"torch", "numpy"},
    "training": {"torch"},
    "nodes": set(),
    "nodes/host": {"torch"} | HOST_MODULES,
    "headless": {"torch", "aiohttp", "tqdm", "PIL", "numpy", "tomli"},
}
STANDARD = set(__import__("sys").stdlib_module_names)
READING_ORDER = {  # inside a leaf and the index a file imports only from files above it
    "clip_core": (
        "config device tokenizer families prompts/comfy prompts/a1111 prompts/oddities prompts/dialects "
        "prompts/splits prompts/chunks encoding/conditioning prompts/textual_inversion prompts/plan "
        "networks/layers networks/text networks/patches networks/class_token networks/vision networks/resnet "
        "networks/clip siglip_config networks/siglip networks/precision features/shared_prefixes features/padded_texts "
        "features/whole_texts encoding/rows features/texts "
        "encoding/masked encoding/emphasis encoding/encode features/preprocess features/pictures "
        "features/search few_labels/{neighbours,task,heads,inductive,transductive,methods,splitting,choosing} "
        "few_labels/{measuring,asking,learning} judging/{ranking,json_list,templates,zero_shot,word_list} "
        "judging/english judging/question_rules judging/questions checkpoint/foreign checkpoint/layouts "
        "checkpoint/siglip checkpoint/sizes checkpoint/recipe checkpoint/find checkpoint/facts"
    ).split(),
    "vae_core": (
        "config wide norms doubling layers posterior latents batches channels inpaint padding quality tiling/tiles "
        "tiling/waiting tiling/sweeps tiling/network tiling/tiled tiling/plans tiling/card_plans tiling/room "
        "tiling/work networks/source networks/kl_halves networks/kl_sweeps networks/kl networks/kl_names "
        "networks/tiny_sweeps networks/tiny networks/tiny_names networks/wan_config networks/wan_layers "
        "networks/wan_halves networks/wan networks/wan_names networks/table checkpoint/foreign checkpoint/find "
        "rescaling/factors rescaling/probe"
    ).split(),
    "lora": (
        "kinds/{adapters,widening,whole,hadamard,kronecker,orthogonal,magnitude,table} "
        "weights/low_rank weights/measuring weights/fusing formats/dialects families/family families/text_encoders "
        "families/joint/{flux,flux2,sd3,qwen_image,auraflow,hidream,lens,joy_image} "
        "families/audio/{ace_step,stable_audio} "
        "families/single/{z_image,krea2,pixart,ernie,omnigen2,hunyuan_dit,hunyuan3d,ideogram4,boogu,pixeldit} "
        "families/single/{stable_cascade,triposplat} "
        "families/video/{hunyuan,wan,ltx,kandinsky5,cosmos,mochi,cogvideox,minimax_h3,seedvr2} "
        "families/table families/patterns models/{places,family_names,unet,spellings,names,rows} "
        "formats/suffixes formats/adapter_config formats/building formats/writing formats/read models/match "
        "models/families models/implied models/blocks models/parts models/conversion models/published "
        "weights/trainable weights/inject weights/patching formats/list_text formats/header "
        "workshop/{thin,algebra,spectrum,noise,ranks,sources,gathering,steps,outcome,naming,sizing} "
        "workshop/{resizing,checkpoint} workshop/merging/{methods,merge,verdict} workshop/comparing/{compare,copies} "
        "workshop/extracting/{pairing,extraction,spelling} "
        "workshop/editing/{header,edit,baking}"
    ).split(),
    "files": (
        "errors contents writing documents sniff safetensors_file folder pickle_file inert_pickle "
        "torchscript_file tensors tree decoding/kinds decoding/orientation decoding/bare decoding/opening "
        "decoding/ground images pictures captioned/{pairs,folder,classes,table,shards,find}"
    ).split(),
    "diffusion": "config layers network checkpoint flow schedules sampling".split(),
    "doctor": "facts spaces texts models fits".split(),
    "index": ("model shards scan table writing update reading adding").split(),
    "drawing": (
        "paper fit bar_chart heat_map token_sheet label_table rank_sheet contact_sheet curves channel_plot "
        "lora_comparison course_plot"
    ).split(),
}
ROOMS = {  # the rooms of a core, and which of the others each may import from; all may from the core's own files
    "clip_core": {
        "prompts": set(),
        "networks": set(),
        "judging": set(),
        "encoding": {"prompts", "networks"},
        "features": {"networks", "encoding"},
        "few_labels": {"features"},
        "checkpoint": {"networks"},
    },
    "vae_core": {"tiling": set(), "networks": {"tiling"}, "checkpoint": {"networks"}, "rescaling": {"networks"}},
    "lora": {
        "kinds": set(),
        "families": set(),
        "formats": {"kinds"},
        "models": {"kinds", "families", "formats"},
        "weights": {"kinds", "models"},
        "workshop": {"kinds", "families", "formats", "models", "weights"},
    },
    "files": {"decoding": set(), "captioned": set()},
    "nodes": {
        "host": set(),
        "text": {"host", "conditioning"},
        "conditioning": {"host"},
        "clip": {"host"},
        "vae": {"host"},
        "lora": {"host"},
        "search": {"host", "clip"},
        "labels": {"host", "clip", "search"},
        "doctor": {"host", "lora"},
        "workshop": {"host", "lora"},
        "training": {"host", "lora", "search", "text", "conditioning", "vae"},
    },
}


def sources(folder: str = "") -> list[Path]:
    skipped = {"tests", "benchmarks", "output", "build"}
    found = [
        p for p in (ROOT / folder).rglob("*.py") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)
    ]
    return sorted(p for p in found if p.relative_to(ROOT).parts[0] not in skipped)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted name, is it inside the pack) of every import anywhere in a file; inside ones from the pack's root."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [_placed(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            base = ["clip_vae_lora", *package[: len(package) - node.level + 1]] if node.level else []
            found += [_placed([*base, *module, alias.name]) for alias in node.names]
    return found


def _placed(parts: list[str]) -> tuple[str, bool]:
    inside = parts[0] == "clip_vae_lora"
    return ".".join(parts[inside:]), inside


def braces(word: str) -> list[str]:
    """ "a/{b,c}" -> ["a/b", "a/c"]"""
    before, _, names = word.partition("{")
    return [before + name for name in names.rstrip("}").split(",")]


@cache
def imported_files() -> dict[str, set[str]]:
    """What each file imports, inside functions and for types included, without what comes before ("nodes.host.x" runs
    nodes/__init__, which is no import of that file's). Files without their ending, from the root.
    """
    files = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in ALL}

    def file_of(name: str) -> str | None:
        path = name.replace(".", "/")
        choices = (path, f"{path}/__init__", path.rpartition("/")[0], f"{path.rpartition('/')[0]}/__init__")
        return next((choice for choice in choices if choice in files), None)  # the last two: a name inside the file

    found = {file: {file_of(name) for name, inside in imports(path) if inside} for file, path in files.items()}
    return {file: names - {None} for file, names in found.items()}


ALL = sources()


def placed(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_folders_import_only_what_lies_below_them():
    wrong = []
    for path in ALL:
        folder = path.relative_to(ROOT).parts[0]
        if folder == "__init__.py":
            continue
        known = {folder, *MAY_IMPORT[folder]}
        wrong += [(placed(path), name) for name, inside in imports(path) if inside and name.split(".")[0] not in known]
    assert not wrong


def test_only_known_libraries_are_imported_and_the_host_only_by_its_adapter():
    wrong = []
    for path in ALL:
        own = placed(path)
        where = "nodes/host" if own.startswith("nodes/host") else own.split("/")[0]
        if "/" not in own or own == STARTS_THE_HOST:
            continue
        for name, inside in imports(path):
            first = name.split(".")[0]
            if inside or first in STANDARD or (where == "headless" and first == "checkout"):
                continue
            of_host = first in HOST_MODULES and not own.startswith("nodes/host/comfyui/")
            if first not in OUTSIDE[where] or of_host:
                wrong.append((own, name))
    assert not wrong


@pytest.mark.parametrize("core", READING_ORDER)
def test_inside_a_core_imports_go_up_the_reading_order(core):
    order = [name for word in READING_ORDER[core] for name in braces(word)]
    for file, imported in imported_files().items():
        name = file.removeprefix(f"{core}/")
        if name == file or name.endswith("__init__"):
            continue
        assert name in order, f"{file} has no place in the reading order"
        for other in (one.removeprefix(f"{core}/") for one in imported if one.startswith(f"{core}/")):
            assert other.endswith("__init__") or order.index(other) < order.index(name), f"{file} imports {other}"


@pytest.mark.parametrize("folder", ROOMS)
def test_rooms_import_only_from_rooms_below_them(folder):
    rooms = ROOMS[folder]
    assert {path.parent.name for path in sources(folder) if path.parent.parent == ROOT / folder} == set(rooms)
    for file, imported in imported_files().items():
        above, room = f"{folder}/", file.split("/")[1] if "/" in file else ""
        if not file.startswith(above) or (folder in ("nodes", "files") and room not in rooms):
            continue  # the ground, which for these lies above: it gathers what the rooms have
        for other in imported:
            there = other.split("/")[1] if other.startswith(above) else ""
            known = {room} | (rooms[room] if room in rooms else set())
            assert there not in rooms or there in known, f"{file} imports {other}"


def test_torch_distributed_is_named_in_one_file_only():
    named = [placed(path) for path in ALL if "torch.distributed" in path.read_text(encoding="utf-8")]
    assert named == ["training/distributed.py"]


def test_imports_are_seen_wherever_they_stand():
    found = imported_files()
    assert "clip_core/prompts/textual_inversion" in found["clip_core/prompts/plan"]  # under TYPE_CHECKING
    assert "nodes/host/comfyui/__init__" in found["nodes/host/__init__"]  # inside a function
    assert "nodes/host/__init__" in found["nodes/catalog"] and "index/scan" in found["headless/embed"]


def test_no_file_imports_itself_by_way_of_others():
    assert not circles(imported_files())
