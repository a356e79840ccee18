"""Inputs of a real ComfyUI set from the command line: dotted ones, those of a subgraph by its title, whole JSON values,
and files in inputs that an option brings.
"""

import io
import json
import os
import subprocess
import sys
import urllib.request

import pytest
from PIL import Image

from ...headless.canvas.building import canvas, node, subgraph
from ...support.servers.serving import ROOT, served

OWN_NODE = '''
import os
import folder_paths
from comfy_api.latest import ComfyExtension, io

class PictureOf(io.ComfyNode):
    """Its option "file" brings an input for a picture, as a node of version 3 may have it."""

    @classmethod
    def define_schema(cls):
        names = sorted(os.listdir(folder_paths.get_input_directory()))
        picture = io.Combo.Input("picture", options=names, upload=io.UploadType.image)
        brought = [io.DynamicCombo.Option("none", []), io.DynamicCombo.Option("file", [picture])]
        return io.Schema(
            node_id="TestPictureOf", inputs=[io.DynamicCombo.Input("source", options=brought)],
            outputs=[io.String.Output()], is_output_node=True,
        )

    @classmethod
    def execute(cls, source):
        with open(folder_paths.get_annotated_filepath(source["picture"]), "rb") as file:
            data = file.read()
        return io.NodeOutput(data.hex(), ui={"text": [data.hex()]})

class Extension(ComfyExtension):
    async def get_node_list(self):
        return [PictureOf]

async def comfy_entrypoint():
    return Extension()
'''
MAKE = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 8, "batch_size": 3, "color": 255}}


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory):
    """The address of a ComfyUI with a node whose file is an input of an option."""
    base = tmp_path_factory.mktemp("server")
    (base / "custom_nodes" / "picture_of").mkdir(parents=True)
    (base / "custom_nodes" / "picture_of" / "__init__.py").write_text(OWN_NODE)
    (base / "input").mkdir()
    with served(comfyui_path, base) as address:
        yield address


@pytest.fixture
def go(server, tmp_path):
    """go(document, *arguments) -> the JSON that the command prints; it runs in a process of its own."""

    def go(document, *arguments):
        (tmp_path / "w.json").write_text(json.dumps(document))
        command = [sys.executable, str(ROOT / "headless" / "run.py"), str(tmp_path / "w.json"), "--server", server]
        environment = {key: value for key, value in os.environ.items() if key != "COMFYUI_PATH"}
        done = subprocess.run(
            [*command, "--json", "--output", str(tmp_path / "out"), *arguments], capture_output=True, env=environment
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return go


def needs(server, *names):
    for name in names:
        if not json.load(urllib.request.urlopen(f"{server}/object_info/{name}", timeout=60)):
            pytest.skip(f"this host has no {name}")


def with_subgraph():
    """1 EmptyImage -> 3, a subgraph "Bigger" around ImageScale -> 2 SaveImage."""
    inside = subgraph(
        "5b9c3f7e-0000-4000-8000-000000000001",
        [node(10, "ImageScale", [("image", 1), ("width", 2, 1), ("crop", None, 1)], ["area", 11, 12, "center"])],
        [(1, -10, 0, 10, 0), (2, -10, 1, 10, 1), (4, 10, 0, -20, 0)],
        [("image", [1]), ("width", [2])],
        [("IMAGE", [4])],
    )
    nodes = [
        node(1, "EmptyImage", (), [16, 8, 1, 0]),
        node(3, inside["id"], [("image", 1), ("width", None, 1)], [20], title="Bigger"),
        node(2, "SaveImage", [("images", 2)], ["bigger"]),
    ]
    links = [(1, 1, 0, 3, 0), (2, 3, 0, 2, 0)]
    return canvas(nodes, links, definitions={"subgraphs": [inside]})


def test_a_value_of_a_subgraph_is_set_by_its_title_and_is_that_of_the_picture(go):
    document = with_subgraph()
    assert go(document, "--print-api")["3:10"]["inputs"]["width"] == 20
    assert go(document, "--print-api", "--set", "Bigger.width=33")["3:10"]["inputs"]["width"] == 33
    (path,) = go(document, "--set", "Bigger.width=33")["images"]
    assert Image.open(path).size == (33, 12)


def test_an_option_and_its_dotted_inputs_are_set(server, go):
    needs(server, "ResizeImageMaskNode")
    document = {
        "1": MAKE,
        "2": {
            "class_type": "ResizeImageMaskNode",
            "inputs": {
                "input": ["1", 0],
                "resize_type": "scale longer dimension",
                "resize_type.longer_size": 64,
                "scale_method": "area",
            },
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "resized"}},
    }
    settings = ["--set", "2.resize_type=scale by multiplier", "--set", "2.resize_type.multiplier=2"]
    inputs = go(document, "--print-api", *settings)["2"]["inputs"]
    assert inputs["resize_type.multiplier"] == 2 and "resize_type.longer_size" not in inputs
    assert {Image.open(path).size for path in go(document, *settings)["images"]} == {(32, 16)}


def test_a_video_is_saved_in_the_format_that_is_set(server, go):
    needs(server, "SaveVideo", "CreateVideo")
    document = {
        "1": MAKE,
        "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}},
        "3": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["2", 0], "filename_prefix": "v", "format": "auto", "codec": "auto"},
        },
    }
    document["1"] = {**MAKE, "inputs": {**MAKE["inputs"], "width": 64, "height": 64}}
    form = json.load(urllib.request.urlopen(f"{server}/object_info/SaveVideo", timeout=60))["SaveVideo"]["input"]
    dotted = form["required"]["format"][0] == "COMFY_DYNAMICCOMBO_V3"
    if dotted:
        del document["3"]["inputs"]["codec"]
    codec = "3.format.codec" if dotted else "3.codec"
    (path,) = go(document, "--set", "3.format=mp4", "--set", f"{codec}=h264")["images"]
    assert path.endswith(".mp4") and b"avc1" in open(path, "rb").read()


def test_a_whole_json_value_is_set(server, go):
    needs(server, "CurveEditor")
    document = {
        "1": {"class_type": "CurveEditor", "inputs": {"curve": {"points": [[0, 0], [1, 1]]}}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    value = {"points": [[0, 0.25], [1, 0.5]], "interpolation": "linear"}
    set_value = ["--set", f"1.curve={json.dumps(value)}"]
    assert go(document, "--print-api", *set_value)["1"]["inputs"]["curve"] == value
    assert go(document, *set_value)["outputs"]["2"]["text"]


def test_a_file_in_an_input_that_an_option_brings_goes_up(server, go, tmp_path):
    needs(server, "TestPictureOf")
    picture = io.BytesIO()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(picture, "PNG")
    (tmp_path / "beside ü.png").write_bytes(picture.getvalue())
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "other.png").write_bytes(picture.getvalue() + b"other")
    inputs = {"source": "file", "source.picture": "beside ü.png"}
    document = {"1": {"class_type": "TestPictureOf", "inputs": inputs}}
    assert go(document)["outputs"]["1"]["text"] == [picture.getvalue().hex()]
    document["1"]["inputs"] = {"source": "none"}
    settings = ["--set", "1.source=file", "--set", f"1.source.picture={tmp_path / 'away' / 'other.png'}"]
    assert go(document, *settings)["outputs"]["1"]["text"] == [(picture.getvalue() + b"other").hex()]
