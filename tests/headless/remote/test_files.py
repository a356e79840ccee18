"""Files up and down: sound, video, models and masks go up by content; everything a job saved comes down, each whole."""

import asyncio
import io
import os

import pytest
from PIL import Image

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.headless.remote import connection
from clip_vae_lora.headless.remote.client import Client
from clip_vae_lora.headless.remote.connection import _write
from clip_vae_lora.headless.remote.downloading import MissingFiles, entries
from clip_vae_lora.headless.remote.errors import ServerError
from clip_vae_lora.headless.workflow.graph import WorkflowError

from ...support.servers.fast import FAST
from ...support.servers.queue_server import INFO, prompt_of

KINDS = [
    ("LoadAudio", "audio", "voice.flac", ""),
    ("LoadVideo", "file", "clip.mp4", ""),
    ("Load3D", "model_file", "mesh.glb", "3d"),
    ("LoadImageMask", "image", "mask.png", ""),
]


def loader(kind, name, value):
    return {"1": {"class_type": kind, "inputs": {name: value}}}


@pytest.mark.parametrize("kind, name, file, folder", KINDS)
def test_a_file_beside_the_workflow_goes_up_under_its_name(queue_server, go, tmp_path, kind, name, file, folder):
    (tmp_path / file).write_bytes(b"mine")
    server = queue_server()
    value = f"{folder}/{file}" if folder else file
    assert go(server.url, document=loader(kind, name, value))[0] == 0
    assert server.inputs == {f"{folder}/{file}": b"mine"}
    (item,) = server.history.values()
    assert item["prompt"][2]["1"]["inputs"][name] == value


@pytest.mark.parametrize("kind, name, file, folder", KINDS)
def test_a_file_that_the_user_names_by_its_path_goes_up(queue_server, go, tmp_path_factory, kind, name, file, folder):
    away = tmp_path_factory.mktemp("away") / file
    away.write_bytes(b"away")
    server = queue_server()
    assert go(server.url, "--set", f"1.{name}={away}", document=loader(kind, name, "none"))[0] == 0
    assert server.inputs == {f"{folder}/{file}": b"away"}


@pytest.mark.parametrize("name", ["~nobody-has-this-name/a.png", "a" * 5000, "a/../../b.png", "C:\\pictures\\a.png"])
def test_a_name_that_no_file_can_have_is_left_to_the_server(queue_server, go, name):
    server = queue_server()
    assert go(server.url, "--set", f"1.image={name}", document=loader("LoadImageMask", "image", "x"))[0] == 0
    assert server.inputs == {} and [item["prompt"][2]["1"]["inputs"]["image"] for item in server.history.values()] == [
        name
    ]


def test_a_file_in_an_input_that_an_option_brings_goes_up(queue_server, go, tmp_path, monkeypatch):
    brought = {"required": {"picture": ["COMBO", {"options": [], "image_upload": True}]}}
    options = [{"key": "none", "inputs": {}}, {"key": "file", "inputs": brought}]
    dotted = {"input": {"required": {"source": ["COMFY_DYNAMICCOMBO_V3", {"options": options}]}}, "output": []}
    monkeypatch.setitem(INFO, "Dotted", {**dotted, "output_node": True})
    (tmp_path / "a.png").write_bytes(b"a")
    server = queue_server()
    server.inputs["/a.png"] = b"theirs"
    document = {"1": {"class_type": "Dotted", "inputs": {"source": "none"}}}
    settings = ["--set", "1.source=file", "--set", "1.source.picture=a.png"]
    assert go(server.url, *settings, document=document)[0] == 0
    assert server.inputs["/a (1).png"] == b"a"
    assert next(iter(server.history.values()))["prompt"][2]["1"]["inputs"]["source.picture"] == "a (1).png"


def test_a_scene_that_nothing_looks_at_has_its_empty_picture_on_the_server(queue_server, go, monkeypatch):
    inputs = {"required": {"model_file": ["COMBO", {"options": []}], "image": ["LOAD_3D", {}]}}
    view = {"input": inputs, "output": ["IMAGE", "STRING"], "output_node": True}
    monkeypatch.setitem(INFO, "Load3D", view)
    server = queue_server()
    server.inputs["threed/cvl_no_scene.png"] = b"another picture of that name"
    slots = [{"name": name, "type": name, "links": []} for name in ("IMAGE", "STRING")]
    document = {"nodes": [{"id": 1, "type": "Load3D", "widgets_values": ["a.glb", ""], "outputs": slots}], "links": []}
    assert go(server.url, document=document)[0] == 0
    sent = next(iter(server.history.values()))["prompt"][2]["1"]["inputs"]["image"]
    assert sent["image"] == sent["mask"] == "threed/cvl_no_scene (1).png"
    assert Image.open(io.BytesIO(server.inputs["threed/cvl_no_scene (1).png"])).getpixel((0, 0)) == (0, 0, 0, 0)


def test_a_name_that_is_taken_on_the_server_gives_the_upload_another_and_the_prompt_follows(queue_server, go, tmp_path):
    server = queue_server()
    server.inputs["/voice.flac"] = b"theirs"
    (tmp_path / "voice.flac").write_bytes(b"mine")
    for _ in range(2):
        assert go(server.url, document=loader("LoadAudio", "audio", "voice.flac"))[0] == 0
    assert server.inputs == {"/voice.flac": b"theirs", "/voice (1).flac": b"mine"}
    assert {item["prompt"][2]["1"]["inputs"]["audio"] for item in server.history.values()} == {"voice (1).flac"}


def test_a_file_with_an_odd_name_keeps_it(queue_server, tmp_path):
    server = queue_server()
    path = tmp_path / 'Käse "neu" 50%.png'
    path.write_bytes(b"cheese")

    async def sent():
        async with Client(server.url, timing=FAST) as client:
            return [await client.uploads.upload(path, "") for _ in range(2)]

    assert asyncio.run(sent()) == [path.name] * 2
    assert server.inputs == {f"/{path.name}": b"cheese"}


def test_an_upload_goes_on_through_a_busy_proxy_whole(queue_server, proxy, tmp_path):
    server = queue_server()
    before = proxy(server)
    path = tmp_path / "big.mp4"
    path.write_bytes(bytes(range(256)) * 20_000)

    async def sent():
        async with Client(before.url, timing=FAST) as client:
            before.set(next_busy=[502, 503])
            return await client.uploads.upload(path, "")

    assert asyncio.run(sent()) == "big.mp4" and server.inputs == {"/big.mp4": path.read_bytes()}


def test_every_kind_of_output_is_a_file():
    entry = {"filename": "x", "subfolder": "s", "type": "output"}
    ui = {
        "images": [entry],
        "gifs": [{**entry, "format": "video/h264-mp4", "frame_rate": 8}],
        "audio": ({**entry, "type": "temp"},),
        "3d": [entry],
        "text_file": entry,
        "text": ["words"],
        "animated": (True,),
        "inputs": [{**entry, "type": "input"}],
        "result": ["mesh/a.glb", None, None],
    }
    assert [(found["filename"], found["type"]) for found in entries(ui)] == [
        *[("x", "output")] * 2,
        ("x", "temp"),
        *[("x", "output")] * 2,
        ("a.glb", "output"),
    ]


def outputs_of(*names):
    return {"1": {"images": [{"filename": name, "subfolder": "", "type": "output"} for name in names]}}


def saved(server, outputs, folder):
    async def save():
        async with Client(server.url, timing=FAST) as client:
            return await client.save(outputs, folder)

    return asyncio.run(save())


def test_a_file_that_is_gone_is_named_and_the_others_come_down(queue_server, tmp_path):
    server = queue_server()
    server.files = {"a.png": b"a", "c.png": b"c"}
    with pytest.raises(MissingFiles, match="does not give b.png") as raised:
        saved(server, outputs_of("a.png", "b.png", "c.png"), tmp_path)
    assert [one.path.name for one in raised.value.saved] == ["a.png", "c.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "c.png"]  # and no half of b.png


def test_the_preview_of_a_model_of_the_input_folder_is_no_loss(queue_server, tmp_path):
    assert saved(queue_server(), {"1": {"result": ["3d/mine.glb", None, None]}}, tmp_path) == []


def test_two_servers_that_give_the_same_name_lose_nothing(queue_server, tmp_path):
    names = [f"{number}.png" for number in range(20)]
    servers = [queue_server() for _ in range(3)]
    for number, server in enumerate(servers):
        server.files = {name: b"%d %s" % (number, name.encode()) for name in names}

    async def save(server):
        async with Client(server.url, timing=FAST) as client:
            return await client.save(outputs_of(*names), tmp_path)

    async def all_at_once():
        return await asyncio.gather(*map(save, servers))

    asyncio.run(all_at_once())
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {
        data for server in servers for data in server.files.values()
    }
    assert len(list(tmp_path.iterdir())) == 60


def test_an_output_folder_that_cannot_be_written_is_named_before_anything_is_sent(queue_server, go, tmp_path):
    server = queue_server()
    (tmp_path / "file").write_bytes(b"")
    for folder in ("/proc/nope", str(tmp_path / "file"), str(tmp_path / "file" / "sub")):
        code, _, err = go(server.url, "--output", folder, document=prompt_of("a"))
        assert code == 2 and folder.removesuffix("/sub") in err and "choose another" in err
    assert not server.ran and not server.sockets


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_is_no_fault_of_the_server():
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(FileFormatError, match="No space left"):
        _write(full, b"x")


def test_nothing_is_written_any_more_when_one_file_could_not_be(queue_server, tmp_path, monkeypatch):
    server = queue_server()
    server.files = {f"{number}.png": b"x" for number in range(30)}

    def refused(file, chunk):
        raise FileFormatError(file.name, "cannot be written: No space left on device")

    async def save():
        async with Client(server.url, timing=FAST) as client:
            before = asyncio.all_tasks()
            with pytest.raises(FileFormatError, match="cannot be written into .*: No space left"):
                await client.save(outputs_of(*server.files), tmp_path)
            return asyncio.all_tasks() - before

    monkeypatch.setattr(connection, "_write", refused)
    assert asyncio.run(save()) == set() and list(tmp_path.iterdir()) == []


def test_a_refused_upload_is_named(queue_server, tmp_path):
    server = queue_server()
    (tmp_path / "a.png").write_bytes(b"a")

    async def sent():
        async with Client(server.url, timing=FAST) as client:
            await client.uploads.upload(tmp_path / "a.png", "")

    server.refuses_uploads = 413
    with pytest.raises(ServerError, match="too big for the server"):
        asyncio.run(sent())


def test_names_that_lead_out_of_the_folder_are_refused(queue_server, tmp_path):
    with pytest.raises(WorkflowError, match="outside its folder"):
        saved(queue_server(), outputs_of("../../evil.png"), tmp_path)
