"""Three small node classes and a way to run the command with them, so that these tests need no node of the pack; and a
small fake of ComfyUI's server."""

import asyncio
import json
import threading

import pytest
import torch
from PIL import Image

from clip_vae_lora.headless import command
from clip_vae_lora.headless.workflow import embedded
from clip_vae_lora.headless.workflow.folders import Folders
from clip_vae_lora.headless.workflow.stock_nodes import stock_nodes


class Colour:
    """Every kind of widget, a seed among them, and a socket in the middle."""

    RETURN_TYPES, FUNCTION = ("IMAGE", "STRING"), "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "name": (["red", "green", "blue"], {}),
                "size": ("INT", {"default": 8, "min": 1, "max": 64}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
                "text": ("STRING", {"multiline": True, "default": "hello"}),
            },
            "optional": {
                "image": ("IMAGE",),
                "gain": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0}),
                "invert": ("BOOLEAN", {"default": False}),
                "mode": ("COMBO", {"options": ["a", "b"]}),
            },
            "hidden": {"unique_id": "UNIQUE_ID", "prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def run(
        self,
        name,
        size,
        seed,
        text,
        image=None,
        gain=1.0,
        invert=False,
        mode="a",
        unique_id=None,
        prompt=None,
        extra_pnginfo=None,
    ):
        assert torch.is_inference_mode_enabled()  # as in ComfyUI
        if text == "explode":
            raise RuntimeError("it broke\nhere is what to do")
        picture = torch.zeros(1, size, size, 3)
        picture[..., ["red", "green", "blue"].index(name)] = gain
        picture = 1 - picture if invert else picture
        said = {
            "id": unique_id,
            "text": text,
            "seed": seed,
            "mode": mode,
            "nodes": sorted(prompt),
            "canvas": extra_pnginfo is not None,
            "given": image is not None,
        }
        return {"ui": {"text": [text]}, "result": (picture, json.dumps(said))}


class Split:
    RETURN_TYPES, FUNCTION, OUTPUT_IS_LIST = ("STRING", "INT"), "run", (True, False)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"forceInput": True})}}

    def run(self, text):
        words = text.split()
        return words, len(words)


class Join:
    RETURN_TYPES, FUNCTION, INPUT_IS_LIST, OUTPUT_NODE = ("STRING",), "run", True, True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"words": ("STRING", {"forceInput": True}), "glue": ("STRING", {"default": "-"})}}

    async def run(self, words, glue):
        assert isinstance(glue, list)
        return {"ui": {"text": [glue[0].join(words)]}, "result": (glue[0].join(words),)}


FAKES = {"Colour": Colour, "Split": Split, "Join": Join}


@pytest.fixture
def specs(tmp_path):
    """The specs of the stand-ins and the fakes."""
    return embedded.specs_of({**stock_nodes(Folders(tmp_path)), **FAKES})


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(document, *arguments) -> (exit code, stdout, stderr); pictures lie in and go to tmp_path."""
    monkeypatch.setattr(embedded, "_classes", lambda folders: {**stock_nodes(folders), **FAKES})
    monkeypatch.setattr(embedded, "_tell_host", lambda folders, progress: None)

    def run(document, *arguments):
        path = tmp_path / "w.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        code = command.main([str(path), "--output", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr()
        if code:
            assert said.err.rstrip().splitlines()[-1].startswith("error: ")
            assert "Traceback" not in said.err
        return code, said.out, said.err

    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / "cat.png")
    return run


@pytest.fixture
def prompt():
    """A picture made, saved and its text shown."""
    return {
        "1": {
            "class_type": "Colour",
            "_meta": {"title": "Paint"},
            "inputs": {"name": "red", "size": 4, "seed": 7, "text": "hi there"},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sub/x"}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }


INFO = {
    "LoadImage": {
        "input": {"required": {"image": [["on_server.png"], {"image_upload": True}]}},
        "output": ["IMAGE", "MASK"],
        "output_node": False,
    },
    "Sampler": {
        "input": {"required": {"image": ["IMAGE"], "seed": ["INT", {"default": 0}], "text": ["STRING", {}]}},
        "output": ["IMAGE"],
        "output_node": False,
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "x"}]}},
        "output": [],
        "output_node": True,
    },
}


class Fake:
    """Says what ComfyUI says; `ending` chooses how a run ends. Everything it was sent is kept."""

    def __init__(self, web, ending="success"):
        self.web = web
        self.saved = {"filename": "x_00001_.png", "subfolder": "sub", "type": "output"}
        self.ending, self.uploads, self.posts, self.sockets, self.history = ending, {}, [], {}, {}
        self.images = {"x_00001_.png": b"picture", "t.png": b"preview"}
        self.tasks = set()
        app = web.Application()
        app.add_routes(
            [
                web.get("/object_info/{name}", self.object_info),
                web.post("/prompt", self.prompt),
                web.get("/ws", self.ws),
                web.get("/history/{id}", self.get_history),
                web.get("/view", self.view),
                web.post("/upload/image", self.upload),
                web.post("/interrupt", self.post),
                web.post("/queue", self.post),
            ]
        )
        self.loop = asyncio.new_event_loop()
        self.runner = web.AppRunner(app)
        self.loop.run_until_complete(self.runner.setup())
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        self.loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def close(self):
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def object_info(self, request):
        name = request.match_info["name"]
        if self.ending == "no ComfyUI":
            return self.web.Response(text="<html>It works!</html>")
        return self.web.json_response({name: INFO[name]} if name in INFO else {})

    async def upload(self, request):
        form = await request.post()
        self.uploads[form["image"].filename] = (form["image"].file.read(), form["subfolder"], form.get("overwrite"))
        return self.web.json_response({"name": "cat (1).png", "subfolder": form["subfolder"], "type": "input"})

    async def ws(self, request):
        answer = self.web.WebSocketResponse()
        await answer.prepare(request)
        self.sockets[request.query["clientId"]] = answer
        await answer.send_json({"type": "status", "data": {"status": {}}})
        async for _ in answer:
            pass
        return answer

    async def post(self, request):
        self.posts.append((request.path, await request.json()))
        return self.web.Response()

    async def prompt(self, request):
        body = await request.json()
        self.sent = body
        if self.ending == "refused":
            problem = {"type": "value_bigger_than_max", "message": "Value 9 bigger than max of 3", "details": "seed"}
            return self.web.json_response(
                {
                    "error": {"message": "Prompt outputs failed validation", "details": ""},
                    "node_errors": {"2": {"class_type": "Sampler", "errors": [problem]}},
                },
                status=400,
            )
        if self.ending == "no_outputs":
            error = {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": ""}
            return self.web.json_response({"error": error, "node_errors": []}, status=400)
        if self.ending == "broken":
            return self.web.Response(status=500, text="Internal Server Error")
        errors = {"2": {"errors": [{"message": "Bad branch", "details": ""}]}} if self.ending == "partly" else {}
        socket = self.sockets[body["client_id"]]  # KeyError: the client came with the prompt before it listened
        await self.run(socket, body["prompt_id"])  # over before the answer is sent, as a cached prompt can be
        return self.web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": errors})

    async def run(self, socket, number):
        async def say(kind, **data):
            await socket.send_json({"type": kind, "data": {"prompt_id": number, **data}})

        await socket.send_json({"type": "executing", "data": {"node": None, "prompt_id": "another-run"}})
        await socket.send_bytes(b"\0\0\0\1preview")
        await say("execution_start")
        await say("executing", node="2")
        for done in range(1, 5):
            await say("progress", value=done, max=4, node="2")
        if self.ending == "error":
            await say(
                "execution_error",
                node_id="2",
                node_type="Sampler",
                exception_type="RuntimeError",
                exception_message="out of memory\ntry less",
                traceback=[],
            )
        elif self.ending == "blocked":
            await say(
                "execution_error",
                node_id="2",
                node_type="Sampler",
                exception_type="ExecutionBlocked",
                exception_message="Execution Blocked: Nothing has no pictures",
                traceback=[],
            )
            self.tasks.add(asyncio.ensure_future(self.finish(number, say)))
        elif self.ending == "stopped":
            await say("execution_interrupted", node_id="2")
        elif self.ending == "lost":
            await socket.close()
        elif self.ending != "endless":
            await say("executed", node="2", output={"text": ["said on the way"]})
            self.tasks.add(asyncio.ensure_future(self.finish(number, say)))

    async def finish(self, number, say):
        if self.ending == "old":
            await say("executing", node=None)
        else:
            await say("execution_success")
        await asyncio.sleep(0.2)  # ComfyUI writes the history after it has said so
        preview = {"filename": "t.png", "subfolder": "", "type": "temp"}
        status = {"status_str": "success", "completed": True}
        self.history[number] = {"outputs": {"3": {"images": [self.saved, preview]}}, "status": status}

    async def get_history(self, request):
        number = request.match_info["id"]
        return self.web.json_response({number: self.history[number]} if number in self.history else {})

    async def view(self, request):
        name = request.query["filename"]
        return self.web.Response(body=self.images[name]) if name in self.images else self.web.Response(status=404)


@pytest.fixture
def fake():
    """fake(ending) -> a running Fake."""
    web = pytest.importorskip("aiohttp.web", reason="the client of a ComfyUI server needs aiohttp")
    started = []

    def start(ending="success"):
        started.append(Fake(web, ending))
        return started[-1]

    yield start
    for one in started:
        one.close()
