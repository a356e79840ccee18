"""Workflows run in this process: what comes out, what is refused before anything runs, what scripts can rely on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import clip_vae_lora.headless.checkout as checkout
from clip_vae_lora.headless import command

RUN = Path(checkout.__file__).with_name("run.py")


def test_pictures_are_saved_with_their_workflow_and_texts_printed(run, prompt, tmp_path):
    code, out, err = run(prompt)
    assert code == 0
    with Image.open(tmp_path / "out" / "sub" / "x_00001_.png") as picture:
        assert picture.size == (4, 4) and picture.getpixel((0, 0)) == (255, 0, 0)
        assert json.loads(picture.text["prompt"])["1"]["inputs"]["text"] == "hi there"
    blocks = out.splitlines()
    assert blocks[:2] == ['node 1 Colour "Paint"', "  hi there"] and blocks[-1].startswith("done")
    assert "x_00001_.png" in out
    assert '"id": "1"' in out and '"canvas": false' in out and '"nodes": ["1", "2", "3"]' in out
    assert "[1/3] node 1" in err


def test_json_is_one_document_on_stdout(run, prompt, tmp_path):
    prompt["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    code, out, _ = run(prompt, "--json")
    document = json.loads(out)
    assert code == 0 and set(document) == {"outputs", "images", "seconds"}
    assert document["outputs"]["2"]["images"] == [{"filename": "x_00001_.png", "subfolder": "sub", "type": "output"}]
    assert [Path(path).parent for path in document["images"]] == [tmp_path / "out" / "sub", tmp_path / "out" / "temp"]
    assert all(Path(path).is_file() for path in document["images"])


def test_the_canvas_form_runs_the_same(run, tmp_path):
    nodes = [
        {"id": 1, "type": "LoadImage", "inputs": [], "widgets_values": ["cat.png", "image"]},
        {"id": 2, "type": "ImageInvert", "inputs": [{"name": "image", "type": "IMAGE", "link": 1}]},
        {
            "id": 3,
            "type": "SaveImage",
            "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
            "widgets_values": ["neg"],
        },
    ]
    document = {"version": 0.4, "nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]}
    assert run(document)[0] == 0
    with Image.open(tmp_path / "out" / "neg_00001_.png") as picture:
        assert picture.getpixel((5, 3)) == (0, 255, 255) and json.loads(picture.text["workflow"]) == document


def test_lists_are_fanned_out_and_gathered_as_in_comfyui(run):
    prompt = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "red green blue"}},
        "2": {"class_type": "Split", "inputs": {"text": ["1", 0]}},
        "3": {"class_type": "Colour", "inputs": {"name": "red", "size": 1, "seed": 0, "text": ["2", 0]}},
        "4": {"class_type": "Join", "inputs": {"words": ["2", 0], "glue": "+"}},
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["2", 1]}},
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["3", 1]}},
    }
    code, out, _ = run(prompt, "--json")
    outputs = json.loads(out)["outputs"]
    assert code == 0 and outputs["4"]["text"] == ["red+green+blue"] and outputs["5"]["text"] == ["3"]
    assert outputs["3"]["text"] == ["red", "green", "blue"]  # ran three times, its ui joined
    assert [json.loads(text)["text"] for text in outputs["6"]["text"]] == ["red", "green", "blue"]


def test_an_empty_list_is_an_error_that_names_the_input(run):
    prompt = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": ""}},
        "2": {"class_type": "Split", "inputs": {"text": ["1", 0]}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    code, _, err = run(prompt)
    assert code == 1 and "node 3 PreviewAny failed: its input 'source' got an empty list" in err


def test_a_node_that_raises_is_named_in_one_line(run, prompt, tmp_path):
    code, out, err = run(prompt, "--set", "1.text=explode")
    assert code == 1 and out == ""
    assert err.splitlines()[-1] == 'error: node 1 Colour "Paint" failed: RuntimeError: it broke here is what to do'
    assert not (tmp_path / "out").exists()


def test_verbose_shows_where(prompt, run, capsys, tmp_path):
    run(prompt)
    assert command.main([str(tmp_path / "w.json"), "--set", "1.text=explode", "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, said",
    [
        ({"1": {"size": 0}}, "'size': 0 is out of range, 1 to 64"),
        ({"1": {"size": 4.5}}, "'size': a whole number was expected, and this is 4.5"),
        ({"1": {"size": "many"}}, "'size': a number was expected, and this is \"many\""),
        ({"1": {"size": None}}, "a number was expected, and this is null"),
        ({"1": {"seed": 2**64}}, "out of range"),
        ({"1": {"gain": float("inf")}}, "a number was expected"),
        ({"1": {"invert": "perhaps"}}, "true or false was expected"),
        ({"1": {"text": ["a"]}}, "a text was expected"),
        ({"1": {"name": "gren"}}, '"gren" is not one of its choices; near are green'),
        ({"1": {"mode": "c"}}, "not one of its choices; they are a, b"),
        ({"1": {"image": ["1", 1]}}, "need each other in a circle: 1 <- 1"),
        ({"2": {"images": ["3", 0]}, "3": {"source": ["2", 0]}}, "circle"),
        ({"2": {"images": ["1", 1]}}, "'images' wants IMAGE and is linked to STRING from node 1 Colour \"Paint\""),
        ({"2": {"images": ["1", 2]}}, 'output 2 of node 1 Colour "Paint", which has 2 outputs'),
        ({"2": {"images": ["1", -1]}}, "output -1"),
        ({"2": {"images": ["77", 0]}}, "linked to node 77, which is not in the workflow"),
        ({"2": {"image": ["1", 0], "images": ...}}, "'images' (IMAGE) is missing"),
        ({"2": {"image": ["1", 0], "images": ...}}, "did you mean 'images'?"),
    ],
)
def test_what_is_wrong_is_found_before_anything_runs(run, prompt, tmp_path, change, said):
    for node, inputs in change.items():
        prompt[node]["inputs"] |= inputs
        prompt[node]["inputs"] = {name: value for name, value in prompt[node]["inputs"].items() if value is not ...}
    code, out, err = run(json.dumps(prompt))
    assert code == 2 and said in err and out == "" and not (tmp_path / "out").exists()


def test_all_problems_are_told_at_once(run, prompt):
    prompt["1"]["inputs"] |= {"size": 0, "name": "pink"}
    _, _, err = run(prompt)
    assert "'size'" in err and "'name'" in err


def test_nodes_that_need_comfyui_are_named(run, prompt):
    prompt["9"] = {"class_type": "KSamplerAdvanced", "inputs": {}, "_meta": {"title": "Sample"}}
    code, _, err = run(prompt)
    assert code == 2 and 'node 9 KSamplerAdvanced "Sample"' in err and "--server" in err


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "it is empty"),
        ("{", "not valid JSON"),
        ("[1]", "a JSON object"),
        ("{}", "empty"),
        ('{"a": 1}', "no workflow"),
        ('{"version": 0.4, "nodes": []}', "no nodes to run"),
        ('{"a": {"class_type": "Colour", "inputs": []}}', "not a table"),
        ('{"1": {"class_type": "PrimitiveInt", "inputs": {"value": 1}}}', "no output node"),
        ('{"nodes": {"a": {"class_type": 1}}}', "no workflow"),
    ],
)
def test_json_that_is_no_workflow(run, text, said):
    code, _, err = run(text)
    assert code == 2 and said in err and err.startswith("error: ") and err.count("\n") == 1


def test_the_body_that_is_sent_to_a_server_is_accepted(run, prompt):
    assert run({"prompt": prompt, "client_id": "x"})[0] == 0


@pytest.mark.parametrize(
    "settings, key, expected",
    [
        (["1.text=a = b.c"], "text", "a = b.c"),
        (["Paint.text="], "text", ""),
        (["Colour.seed=18446744073709551615"], "seed", 2**64 - 1),
        (["1.mode=b"], "mode", "b"),
        (["1.text=x", "1.text=y"], "text", "y"),
    ],
)
def test_inputs_are_set_by_id_title_or_class(run, prompt, settings, key, expected):
    arguments = [part for setting in settings for part in ("--set", setting)]
    code, out, _ = run(prompt, "--json", *arguments)
    assert code == 0 and json.loads(json.loads(out)["outputs"]["3"]["text"][0])[key] == expected


def test_a_set_value_replaces_a_link(run, prompt):
    prompt["0"] = {"class_type": "PrimitiveString", "inputs": {"value": "far"}}
    prompt["1"]["inputs"]["text"] = ["0", 0]
    assert json.loads(run(prompt, "--json", "--set", "1.text=near")[1])["outputs"]["1"]["text"] == ["near"]


@pytest.mark.parametrize(
    "setting, said",
    [
        ("1.text", "expected node.input=value"),
        ("text=x", "expected node.input=value"),
        (".a=x", "expected node.input"),
        ("9.text=x", "there is no node '9'"),
        ("Pain.text=x", "near are Paint"),
        ("1.txt=x", "has no input 'txt'; it has text"),
        ("1.size=big", "a number was expected"),
        ("1.size=65", "out of range"),
        ("1.name=grean", "near are green"),
        ("1.image=cat.png", "a IMAGE comes through a link"),
        ("1.invert=2", "true or false"),
    ],
)
def test_settings_that_do_not_fit_say_what_would(run, prompt, setting, said):
    code, _, err = run(prompt, "--set", setting)
    assert code == 2 and said in err


def test_a_name_that_two_nodes_have_is_refused_with_their_ids(run, prompt):
    prompt["8"] = {**prompt["1"], "_meta": {"title": "Other"}}
    code, _, err = run(prompt, "--set", "Colour.text=x")
    assert code == 2 and 'node 1 Colour "Paint", node 8 Colour "Other"' in err


LOAD = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "cat.png"}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def test_pictures_come_from_the_input_folder_before_the_workflows_own(run, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (2, 9)).save(tmp_path / "in" / "cat.png")
    sizes = []
    for arguments in ([], ["--input", str(tmp_path / "in")]):
        path = json.loads(run(LOAD, "--json", *arguments)[1])["images"][0]
        with Image.open(path) as picture:
            sizes.append(picture.size)
    assert sizes == [(6, 4), (2, 9)]


def test_only_the_user_can_name_a_picture_outside_the_folders(run, tmp_path, tmp_path_factory):
    away = tmp_path_factory.mktemp("away") / "dog.png"
    Image.new("RGB", (3, 3)).save(away)
    for name in (str(away), f"../{away.parent.name}/dog.png", "cat.png/..", "gone.png", ""):
        code, _, err = run({**LOAD, "1": {"class_type": "LoadImage", "inputs": {"image": name}}})
        assert code == 2 and "there is no picture" in err
    assert run(LOAD, "--set", f"LoadImage.image={away}")[0] == 0


def test_a_picture_that_is_none_fails_at_its_node(run, tmp_path):
    (tmp_path / "cat.png").write_text("<html>")
    code, _, err = run(LOAD)
    assert code == 1 and "node 1 LoadImage failed: cat.png: this seems to be a web page" in err


def test_nothing_is_saved_outside_the_output_folder(run, prompt, tmp_path):
    code, _, err = run(prompt, "--set", "2.filename_prefix=../../evil")
    assert code == 1 and "leads out of the folder" in err and not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "required: WORKFLOW.json"),
        (["a.json", "--nope"], "unrecognized arguments: --nope"),
        (["gone.json"], "gone.json: there is no such file"),
        (["gone.json", "--server"], "expected one argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, said):
    result = subprocess.run([sys.executable, str(RUN), *arguments], capture_output=True, text=True, timeout=600)
    assert result.returncode == 2 and result.stdout == "" and said in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_a_missing_input_folder_is_named(run, prompt):
    code, _, err = run(prompt, "--input", "/no/such")
    assert code == 2 and "/no/such is no folder" in err
