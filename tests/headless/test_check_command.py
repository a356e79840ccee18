"""cvl check: everything that is wrong at once, with the nearest names, against a server and without one."""

import json

import pytest

from clip_vae_lora.headless import check_command, command, cvl
from clip_vae_lora.headless.workflow.folders import Folders
from clip_vae_lora.headless.workflow.graph import server_spec
from clip_vae_lora.headless.workflow.problems import check

from .remote.conftest import queue_server, web

__all__ = ["queue_server", "web"]
GROWS = {"template": {"input": {"required": {"image": ["IMAGE"]}}, "prefix": "image", "min": 1, "max": 3}}
INFO = {
    "Load": {"input": {"required": {"model": [["SDXL/base.safetensors", "flux.safetensors"]]}}, "output": ["MODEL"]},
    "Sample": {
        "input": {
            "required": {"model": ["MODEL"], "steps": ["INT", {"min": 1, "max": 100}], "name": [["euler", "ddim"]]}
        },
        "output": ["LATENT"],
    },
    "Show": {"input": {"required": {"images": ["IMAGE"]}}, "output": [], "output_node": True},
    "LoadImage": {"input": {"required": {"image": [["cat.png"], {"image_upload": True}]}}, "output": ["IMAGE", "MASK"]},
    "Grow": {"input": {"required": {"images": ["COMFY_AUTOGROW_V3", GROWS]}}, "output": [], "output_node": True},
}


def specs(name):
    return server_spec({"name": name, **INFO[name]}) if name in INFO else None


def found(document, tmp_path, whole=True):
    return check(document, [], specs, Folders(tmp_path / "out", (tmp_path,)), whole=whole)


def test_all_that_is_wrong_is_told_at_once_with_titles_and_the_nearest_names(tmp_path):
    prompt = {
        "1": {"class_type": "Load", "inputs": {"model": "base.safetensors"}, "_meta": {"title": "The model"}},
        "2": {"class_type": "Sample", "inputs": {"model": ["1", 0], "steps": 200, "name": "eulre"}},
        "3": {"class_type": "Show", "inputs": {"images": ["2", 0]}},
        "4": {"class_type": "Gone", "inputs": {}, "_meta": {"title": "Upscaler"}},
        "5": {"class_type": "Show", "inputs": {"images": ["6", 0]}},
        "6": {"class_type": "LoadImage", "inputs": {"image": "cta.png"}},
        "7": {"class_type": "Show", "inputs": {}},
    }
    problems = {(one.kind, one.node, one.input): one for one in found(prompt, tmp_path).problems}
    assert set(problems) == {
        ("model", "1", "model"),
        ("value", "2", "steps"),
        ("value", "2", "name"),
        ("link", "3", "images"),
        ("node", "4", ""),
        ("file", "6", "image"),
        ("input", "7", "images"),
    }
    assert problems["model", "1", "model"].near == ("SDXL/base.safetensors",)
    assert problems["model", "1", "model"].title == "The model" and '"Upscaler"' in problems["node", "4", ""].message
    assert problems["value", "2", "name"].near == ("euler",) and problems["file", "6", "image"].near == ("cat.png",)
    assert "1 to 100" in problems["value", "2", "steps"].message and "LATENT" in problems["link", "3", "images"].message


def test_a_file_that_lies_here_and_inputs_that_grow_are_no_problem(tmp_path):
    (tmp_path / "dog.png").touch()
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "dog.png"}},
        "2": {"class_type": "Grow", "inputs": {"images.image0": ["1", 0]}},
    }
    assert found(prompt, tmp_path).problems == ()


def test_inputs_that_grow_are_checked_one_by_one(tmp_path):
    prompt = {
        "1": {"class_type": "Load", "inputs": {"model": "flux.safetensors"}},
        "2": {"class_type": "Grow", "inputs": {"images.image1": ["1", 0]}},
    }
    problems = [(one.kind, one.input) for one in found(prompt, tmp_path).problems]
    assert problems == [("input", "images.image0"), ("link", "images.image1")]


def test_a_canvas_with_a_missing_node_is_checked_around_it(tmp_path):
    canvas = {
        "nodes": [
            {
                "id": 1,
                "type": "Gone",
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                "widgets_values": ["randomize"],
            },
            {"id": 2, "type": "Show", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]},
            {
                "id": 3,
                "type": "Load",
                "outputs": [{"name": "MODEL", "links": [2]}],
                "widgets_values": ["flx.safetensors"],
            },
            {"id": 4, "type": "Show", "inputs": [{"name": "images", "type": "IMAGE", "link": 2}]},
            {"id": 5, "type": "Note", "widgets_values": ["hello"]},
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 3, 0, 4, 0, "MODEL"]],
    }
    result = found(canvas, tmp_path)
    assert {(one.kind, one.node) for one in result.problems} == {("node", "1"), ("model", "3"), ("link", "4")}
    here = found(canvas, tmp_path, whole=False)
    assert {one.kind for one in here.problems} == {"model", "link"} and any("Gone" in note for note in here.notes)


@pytest.mark.parametrize("value, code", [("1", 0), ("many", 2)])
def test_the_command_says_it_by_its_exit_code_and_in_one_document(queue_server, tmp_path, capsys, value, code):
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"1": {"class_type": "Save", "inputs": {"text": "a", "count": value}}}))
    assert cvl.main(["check", str(path), "--server", queue_server().url, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert [one["input"] for one in document["problems"]] == ["count"] * (code > 0) and document["nodes"] == 1


def test_a_workflow_that_is_none_and_a_server_that_is_away_are_errors(tmp_path, capsys):
    (tmp_path / "w.json").write_text("[]")
    assert cvl.main(["check", str(tmp_path / "w.json")]) == 2
    (tmp_path / "w.json").write_text('{"1": {"class_type": "Save", "inputs": {}}}')
    assert (
        cvl.main(["check", str(tmp_path / "w.json"), "--server", "http://127.0.0.1:9", "--retry", "0", "--json"]) == 3
    )
    assert json.loads(capsys.readouterr().out)["code"] == 3


def test_the_nodes_of_the_pack_are_checked_without_a_server(tmp_path, capsys):
    prompt = {
        "1": {"class_type": "CVL_LoadVAE", "inputs": {"file": "tiny_va.safetensors"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    (tmp_path / "w.json").write_text(json.dumps(prompt))
    assert cvl.main(["check", str(tmp_path / "w.json")]) == 2
    assert "near are bundled/tiny_vae.safetensors" in capsys.readouterr().out
    assert cvl.main(["nothing"]) == 2 and cvl.main(["--help"]) == 0


@pytest.mark.parametrize("word", ["run", "check", "train", "embed"])
def test_every_command_has_its_own_help_under_its_own_name(word, capsys):
    with pytest.raises(SystemExit) as end:
        cvl.main([word, "--help"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith(f"usage: cvl {word} ")


@pytest.mark.parametrize("arguments", [["check", "w.json", "--json"], ["run", "w.json", "--json"], ["train"]])
def test_a_python_package_that_is_missing_is_named(tmp_path, monkeypatch, capsys, arguments):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    (tmp_path / "w.json").write_text('{"1": {"class_type": "Save", "inputs": {}}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check_command, "check_here", missing)
    monkeypatch.setattr(command, "_shown", missing)
    if arguments == ["train"]:
        monkeypatch.setattr(cvl, "import_module", missing)
    assert cvl.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err == "error: the Python package torch is missing; run pip install torch\n"
    assert "--json" not in arguments or json.loads(said.out)["code"] == 2
