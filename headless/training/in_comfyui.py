"""A ComfyUI that is installed here, in this process: its own loaders make the MODEL, and its device holds it.

Nothing of the pack's nodes may be imported before `enter`, for they look once where they run.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..progress import Progress
from ..workflow.graph import NodeClass, Prompt, WorkflowError


def enter(folder: Path, arguments: Sequence[str]) -> None:
    """Import ComfyUI from its folder, with arguments as its main.py takes them.

    Raises:
        WorkflowError: there is none. ModuleNotFoundError: a package that it needs is missing.
    """
    if not (folder / "main.py").is_file() or not (folder / "comfy").is_dir():
        raise WorkflowError(f"there is no ComfyUI in {folder}: give the folder that its main.py lies in")
    before, sys.argv = sys.argv, ["main.py", *_with_a_device(arguments)]
    sys.path.insert(0, str(folder.resolve()))
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import utils.extra_config as extra  # before `nodes`, which puts comfy/ on sys.path, where another `utils` lies

        own = folder / "extra_model_paths.yaml"
        if own.is_file():
            extra.load_extra_path_config(str(own))
        from comfy.cli_args import args

        for path in (one for several in args.extra_model_paths_config or () for one in several):
            extra.load_extra_path_config(path)
        import nodes  # noqa: F401
    finally:
        sys.argv = before


def prepare(pictures: Path | None, output: Path | None, progress: Progress) -> Path:
    """Tell ComfyUI where things lie and who is told of its progress; gives its output folder."""
    import comfy.utils
    import folder_paths

    if pictures is not None:
        folder_paths.set_input_directory(str(pictures.parent))
    if output is not None:
        folder_paths.set_output_directory(str(output.absolute()))

    def hook(done: float, total: float, *_: object, **__: object) -> None:
        progress.step(done, total)

    comfy.utils.set_progress_bar_global_hook(hook)
    return Path(folder_paths.get_output_directory())


def classes_for(prompt: Prompt) -> dict[str, NodeClass]:
    """ComfyUI's node classes and ours. Its extra nodes, and other packs, are loaded where the workflow needs them."""
    nodes: Any = importlib.import_module("nodes")  # ComfyUI's: seen from this folder, a checker takes our own for it
    from ...nodes import NODE_CLASS_MAPPINGS

    wanted = {found["class_type"] for found in prompt.values()} - NODE_CLASS_MAPPINGS.keys()
    for load in (lambda: None, nodes.init_builtin_extra_nodes, nodes.init_external_custom_nodes):
        work = load()
        if work is not None:
            asyncio.run(work)
        if wanted <= nodes.NODE_CLASS_MAPPINGS.keys():
            break
    found: dict[str, Any] = {**nodes.NODE_CLASS_MAPPINGS, **NODE_CLASS_MAPPINGS}
    return found


def _with_a_device(arguments: Sequence[str]) -> list[str]:
    """The arguments, and --cpu where there is no card, without which ComfyUI does not start."""
    from ...training.device import best_device

    return [*arguments, *(["--cpu"] if best_device().type == "cpu" and "--cpu" not in arguments else [])]
