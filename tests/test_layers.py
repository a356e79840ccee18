"""Who may import whom, and how big things may be: the rules of the house, read from the source with `ast`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAVES = {"clip_core", "vae_core", "lora", "files"}
MAY_IMPORT = {
    **{leaf: set() for leaf in LEAVES},
    "training": LEAVES,
    "nodes": LEAVES | {"training"},
    "headless": LEAVES | {"training", "nodes"},
}
HOST_MODULES = {
    "comfy",
    "comfy_execution",
    "comfy_extras",
    "comfy_api",
    "folder_paths",
    "execution",
    "server",
    "node_helpers",
}
OUTSIDE = {  # what each folder may import from outside the pack, beside the standard library
    "clip_core": {"torch", "ftfy", "regex"},
    "vae_core": {"torch"},
    "lora": {"torch"},
    "files": {"torch", "safetensors", "numpy", "PIL", "matplotlib"},
    "training": {"torch"},
    "nodes": set(),
    "nodes/host": {"torch"} | HOST_MODULES,
    "headless": {"torch", "aiohttp", "tqdm", "PIL", "numpy"},
}
STANDARD = set(__import__("sys").stdlib_module_names)
READING_ORDER = {  # inside a core a file imports only from files above it
    "clip_core": (
        "config tokenizer families prompt a1111 oddities dialects splits chunks conditioning embeddings plan layers "
        "text class_token vision resnet model shared_prefixes kept text_features rows masked emphasis encode "
        "preprocess image_features search ranking templates zero_shot word_list english questions foreign layouts "
        "sizes recipe checkpoint told"
    ).split(),
    "vae_core": (
        "config norms layers tiles sweeps autoencoder tiny tiled_kl tiled_tiny tiled memory quality latents batches "
        "inpaint refused layouts tiny_layouts checkpoint"
    ).split(),
    "lora": (
        "adapters hadamard kronecker orthogonal magnitude low_rank fusing mmdit names suffixes adapter_config building "
        "writing formats match families blocks conversion published inject"
    ).split(),
}
MAX_LINES, MAX_FUNCTION = 300, 60


def sources(folder: str = "") -> list[Path]:
    skipped = {"tests", "benchmarks", "output", "build"}
    found = [
        p for p in (ROOT / folder).rglob("*.py") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)
    ]
    return sorted(p for p in found if p.relative_to(ROOT).parts[0] not in skipped)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted name, is it inside the pack) of every import anywhere in a file; inside ones from the pack's root."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                inside = node.module.split(".")[0] == "clip_vae_lora"
                found.append((node.module.removeprefix("clip_vae_lora."), inside))
                continue
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            found += [(".".join([*base, alias.name]), True) for alias in node.names]
    return found


ALL = sources()
IDS = [p.relative_to(ROOT).as_posix() for p in ALL]


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_folders_import_only_what_lies_below_them(path):
    folder = path.relative_to(ROOT).parts[0]
    if folder == "__init__.py":
        return
    for name, inside in imports(path):
        first = name.split(".")[0]
        if inside:
            assert first == folder or first in MAY_IMPORT[folder], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_only_known_libraries_are_imported_and_the_host_only_by_its_adapter(path):
    relative = path.relative_to(ROOT)
    if len(relative.parts) == 1:
        return
    where = "nodes/host" if relative.as_posix().startswith("nodes/host") else relative.parts[0]
    for name, inside in imports(path):
        first = name.split(".")[0]
        if inside or first in STANDARD or (where == "headless" and first == "checkout"):
            continue
        assert first in OUTSIDE[where], f"{relative} imports {name}"
        if first in HOST_MODULES:
            assert relative.name.startswith("comfyui"), f"{relative} imports the host's {name}"


@pytest.mark.parametrize("core", READING_ORDER)
def test_inside_a_core_imports_go_up_the_reading_order(core):
    order = READING_ORDER[core]
    for path in sources(core):
        if path.stem == "__init__":
            continue
        assert path.stem in order, f"{core}/{path.name} has no place in the reading order"
        for name, inside in imports(path):
            parts = name.split(".")
            if inside and parts[0] == core and len(parts) > 1 and parts[1] in order:
                assert order.index(parts[1]) < order.index(path.stem), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [p for p in ALL if p.relative_to(ROOT).parts[0] in LEAVES - {"files"}], ids=str)
def test_cores_touch_neither_disk_nor_terminal_nor_environment(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "exec"}, f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Attribute) and node.attr == "environ":
            raise AssertionError(f"{path.name}:{node.lineno} reads the environment")


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_torch_distributed_is_named_in_one_file_only(path):
    if path.relative_to(ROOT).as_posix() != "training/distributed.py":
        assert "torch.distributed" not in path.read_text(encoding="utf-8")


PUBLISHED = [p for p in ALL if p.relative_to(ROOT).parts[0] != "headless"]


@pytest.mark.parametrize("path", PUBLISHED, ids=[p.relative_to(ROOT).as_posix() for p in PUBLISHED])
def test_what_is_published_passes_the_registrys_scan(path):
    banned = {"subprocess", "socket", "urllib", "requests", "http", "aiohttp", "ctypes", "marshal"}
    for name, inside in imports(path):
        assert inside or name.split(".")[0] not in banned, f"{path.name} imports {name}"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {
                ("os", "environ"),
                ("os", "system"),
                ("sys", "modules"),
                ("sys", "path"),
            }
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "__import__", "compile"}, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_no_handler_swallows_what_it_does_not_know_and_no_default_is_mutable(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"}
            renamed = isinstance(node.body[-1], ast.Raise)  # whatever a node raised, with the node's name put to it
            assert not broad or renamed, f"{path.name}:{node.lineno}"
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]:
                assert not isinstance(default, ast.List | ast.Dict | ast.Set), f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_files_and_functions_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{node.name} has {length} lines"
