"""Both hosts answer the same questions: the functions of `interface.Host`, with its parameters, and nothing else.

ComfyUI's side is read as source, since it cannot be imported without a ComfyUI.
"""

import ast
import inspect
from pathlib import Path

import pytest

from clip_vae_lora.nodes.host import interface, standalone

FOLDER = Path(interface.__file__).parent
ASKED = {
    name: list(inspect.signature(function).parameters)[1:]
    for name, function in vars(interface.Host).items()
    if inspect.isfunction(function) and not name.startswith("_")
}


def functions(*files: str) -> dict[str, list[str]]:
    found = {}
    for file in files:
        for node in ast.parse((FOLDER / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = [arg.arg for arg in [*node.args.args, *node.args.kwonlyargs]]
    return found


COMFYUI = functions(*(path.name for path in FOLDER.glob("comfyui*.py")))
STANDALONE = functions(*(path.name for path in FOLDER.glob("standalone*.py")))


def exported(file: str) -> set[str]:
    tree = ast.parse((FOLDER / file).read_text(encoding="utf-8"))
    named = next(node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__")
    return set(ast.literal_eval(named.value))


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("side", [COMFYUI, STANDALONE], ids=["comfyui", "standalone"])
def test_each_side_answers_with_the_parameters_asked_for(side, name):
    assert side[name] == ASKED[name]


@pytest.mark.parametrize("file", ["comfyui.py", "standalone.py"])
def test_a_side_shows_what_is_asked_and_nothing_else(file):
    assert exported(file) == set(ASKED)


def test_a_model_file_is_not_looked_for_outside_its_folder(tmp_path):
    (tmp_path / "loras").mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    standalone.set_place(models=tmp_path, temp=tmp_path, on_step=lambda done, total: None)
    with pytest.raises(FileNotFoundError):
        standalone.folder_path("loras", "../secret.safetensors")
    assert standalone.folder_names("loras") == []
