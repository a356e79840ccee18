"""Both hosts answer the same questions: the functions of `interface.Host`, with its parameters, and nothing else.

ComfyUI's side is read as source, since it cannot be imported without a ComfyUI.
"""

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from clip_vae_lora.nodes.host import alone, host, interface
from clip_vae_lora.nodes.host.interface import PictureRoute, Route, gather_host
from clip_vae_lora.nodes.routes import ROUTES

FOLDER = Path(interface.__file__).parent


def signature(function: ast.FunctionDef) -> list[tuple[str, str, str | None]]:
    """Name, kind and default of each parameter."""
    args = function.args
    assert not args.posonlyargs and not args.vararg and not args.kwarg
    plain = [None] * (len(args.args) - len(args.defaults)) + [ast.unparse(one) for one in args.defaults]
    named = [one and ast.unparse(one) for one in args.kw_defaults]
    return [
        *((arg.arg, "plain", default) for arg, default in zip(args.args, plain, strict=True)),
        *((arg.arg, "by name", default) for arg, default in zip(args.kwonlyargs, named, strict=True)),
    ]


def functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


def parsed(file: str) -> ast.Module:
    return ast.parse((FOLDER / file).read_text(encoding="utf-8"))


(ASKED,) = (
    {name: signature(function)[1:] for name, function in functions(node.body).items()}
    for node in parsed("interface.py").body
    if isinstance(node, ast.ClassDef) and node.name == "Host"
)


def gathers(side: str) -> list[str]:
    """The files that a side gathers its functions from."""
    (files,) = (
        node.value
        for node in parsed(f"{side}/__init__.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FILES"
    )
    return [name.id for name in files.elts]


SIDES = {
    side: {file: functions(parsed(f"{side}/{file}.py").body) for file in gathers(side)} for side in ("comfyui", "alone")
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("side", SIDES)
def test_each_side_answers_once_with_the_parameters_asked_for(side, name):
    (found,) = (own[name] for own in SIDES[side].values() if name in own)
    assert signature(found) == ASKED[name]


@pytest.mark.parametrize("name", ASKED)
def test_a_function_stands_in_the_file_of_the_same_name_on_both_sides(name):
    places = {side: [file for file, own in files.items() if name in own] for side, files in SIDES.items()}
    assert places["alone"] == places["comfyui"]


def test_the_protocol_is_read_whole():
    assert list(ASKED) == [name for name, member in vars(interface.Host).items() if name[0] != "_"]
    assert all(inspect.isfunction(getattr(interface.Host, name)) for name in ASKED)


def test_the_host_shows_what_is_asked_and_nothing_else():
    assert vars(host).keys() == ASKED.keys()


def test_a_function_that_no_file_or_two_define_is_an_error():
    whole = alone.FILES
    assert inspect.unwrap(gather_host(*whole).make_vae) is alone.vae.make_vae
    with pytest.raises(ImportError, match="one function set_place was expected .* none of its files"):
        gather_host(*(module for module in whole if module is not alone.files))
    second = ModuleType("second")
    exec("def progress(total): ...", vars(second))
    with pytest.raises(ImportError, match="progress was expected .*progress and second"):
        gather_host(*whole, second)


def test_a_name_that_a_file_only_imports_is_not_its_function():
    assert alone.prompts.progress is host.progress  # imported there, and yet gathered once


def test_every_route_answers_its_own_example_and_refuses_what_is_no_question(place):
    for address, route in ROUTES.items():
        assert address.startswith("/clip_vae_lora/") and isinstance(route, Route | PictureRoute)
        if isinstance(route, Route):
            with pytest.raises(ValueError, match="expected"):
                route.function(7)
    assert ROUTES["/clip_vae_lora/tokens"].function({"text": "a cat"})["tokens"] == 2
    (line,) = ROUTES["/clip_vae_lora/loras"].function({"text": "style : 0.8"})["lines"]
    assert "style" in line["problem"]
    bundled = "bundled/tiny_clip_stripes_lora.safetensors"
    assert ROUTES["/clip_vae_lora/lora_header"].function({"name": bundled})["name"] == bundled
    assert host.serve(ROUTES) is None


def test_a_model_file_is_not_looked_for_outside_its_folder(tmp_path, place):
    (tmp_path / "loras").mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    host.set_place(models=tmp_path, temp=tmp_path, on_step=lambda done, total: None)
    with pytest.raises(FileNotFoundError):
        host.folder_path("loras", "../secret.safetensors")
    assert host.folder_names("loras") == []
