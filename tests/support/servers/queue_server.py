"""ComfyUI's queue without its nodes: jobs wait, run one by one, say so over the websocket, go into the history."""

import asyncio
import json
from collections import Counter

from .threaded import Threaded

INFO = {
    "Save": {
        "input": {"required": {"text": ["STRING", {}], "count": ["INT", {"default": 1}]}},
        "output": [],
        "output_node": True,
    },
    "LoadAudio": {
        "input": {"required": {"audio": ["COMBO", {"options": [], "audio_upload": True}]}},
        "output": ["AUDIO"],
        "output_node": True,
    },
    "LoadVideo": {
        "input": {"required": {"file": ["COMBO", {"options": [], "video_upload": True}]}},
        "output": ["VIDEO"],
        "output_node": True,
    },
    "Load3D": {
        "input": {"required": {"model_file": ["COMBO", {"options": ["none"], "file_upload": True}]}},
        "output": ["MESH"],
        "output_node": True,
    },
    "LoadImageMask": {
        "input": {"required": {"image": [[], {"image_upload": True}]}},
        "output": ["MASK"],
        "output_node": True,
    },
}


def prompt_of(text, count=1):
    return {"1": {"class_type": "Save", "inputs": {"text": text, "count": count}}}


class QueueServer(Threaded):
    """`ran` counts how often each job ran, `files` holds what they saved. A text of "fail" fails after it has saved.

    `keeps_ids`: whether a job has the id that the client gave it, as in all but old hosts.
    """

    def __init__(self, web, *, job_s=0.0, keeps_ids=True, ssl_context=None):
        self.web, self.job_s, self.keeps_ids = web, job_s, keeps_ids
        self.pending, self.running, self.history = [], [], {}
        self.files, self.inputs, self.sockets, self.tasks = {}, {}, {}, set()
        self.ran, self.posts, self.refuses_uploads = Counter(), [], 0
        app = web.Application(client_max_size=1 << 30)
        routes = {
            "/system_stats": self.stats,
            "/object_info/{name}": self.info,
            "/ws": self.ws,
            "/queue": self.queue,
            "/prompt": self.remaining,
            "/history": self.whole_history,
            "/history/{id}": self.one_history,
            "/view": self.view,
        }
        app.add_routes([web.get(path, handler) for path, handler in routes.items()])
        posts = {"/prompt": self.prompt, "/upload/image": self.upload}
        posts |= {"/queue": self.post_queue, "/interrupt": self.post_interrupt}
        app.add_routes([web.post(path, handler) for path, handler in posts.items()])
        super().__init__(web, app, ssl_context)

    async def stats(self, request):
        return self.web.json_response({"system": {}, "devices": []})

    async def info(self, request):
        name = request.match_info["name"]
        return self.web.json_response({name: INFO[name]} if name in INFO else {})

    async def ws(self, request):
        socket = self.web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[request.query["clientId"]] = socket
        async for _ in socket:
            pass
        return socket

    async def queue(self, request):
        return self.web.json_response({"queue_running": self.running, "queue_pending": self.pending})

    async def remaining(self, request):
        return self.web.json_response({"exec_info": {"queue_remaining": len(self.running) + len(self.pending)}})

    async def whole_history(self, request):
        return self.web.json_response(self.history)

    async def one_history(self, request):
        number = request.match_info["id"]
        return self.web.json_response({number: self.history[number]} if number in self.history else {})

    async def view(self, request):
        name = "/".join(part for part in (request.query["subfolder"], request.query["filename"]) if part)
        return self.web.Response(body=self.files[name]) if name in self.files else self.web.Response(status=404)

    async def upload(self, request):
        if self.refuses_uploads:
            return self.web.Response(status=self.refuses_uploads)
        form = await request.post()
        name, data, subfolder = form["image"].filename, form["image"].file.read(), form["subfolder"]
        stem, _, ending = name.rpartition(".")
        number = 1
        while self.inputs.get(f"{subfolder}/{name}", data) != data:
            name, number = f"{stem} ({number}).{ending}", number + 1
        self.inputs[f"{subfolder}/{name}"] = data
        return self.web.json_response({"name": name, "subfolder": subfolder, "type": "input"})

    async def post_queue(self, request):
        body = await request.json()
        self.posts.append(("/queue", body))
        for number in body["delete"]:
            found = next((item for item in self.pending if item[1] == number), None)
            if found:
                self.pending.remove(found)
        return self.web.Response()

    async def post_interrupt(self, request):
        body = await request.json()
        self.posts.append(("/interrupt", body))
        self.interrupted = True  # like a host so old that it does not look whose job it is
        return self.web.Response()

    async def prompt(self, request):
        body = await request.json()
        number = body["prompt_id"] if self.keeps_ids else f"own-{len(self.ran)}-{len(self.pending)}"
        extra = {**body["extra_data"], "client_id": body["client_id"]}
        self.pending.append([len(self.ran), number, body["prompt"], extra, ["1"]])
        if not any(not task.done() for task in self.tasks):
            self.tasks = {asyncio.ensure_future(self.work())}
        return self.web.json_response({"prompt_id": number, "number": 1, "node_errors": {}})

    async def work(self):
        while self.pending:
            item = self.pending.pop(0)
            self.running = [item]
            await self.run(item[1], item[2], item[3])
            self.running = []

    async def run(self, number, prompt, extra):
        self.ran[extra["cvl_job"]] += 1
        self.interrupted = False

        async def say(kind, **data):
            socket = self.sockets.get(extra["client_id"])
            if socket is not None and not socket.closed:
                await socket.send_json({"type": kind, "data": {"prompt_id": number, **data}})

        await say("executing", node="1")
        for _ in range(10):
            await asyncio.sleep(self.job_s / 10)
        inputs = prompt["1"]["inputs"]
        text = str(inputs.get("text"))
        entries = [
            {"filename": f"{text}_{i}.png", "subfolder": "", "type": "output"} for i in range(inputs.get("count", 0))
        ]
        for entry in entries:
            self.files[entry["filename"]] = f"{entry['filename']} of {number}".encode()
        messages, ui = [], {"images": entries}
        if self.interrupted:
            messages = [["execution_interrupted", {"node_id": "1"}]]
        elif text == "fail":
            wrong = {"node_id": "1", "exception_type": "RuntimeError", "exception_message": "no memory"}
            messages = [["execution_error", wrong]]
        status = {"status_str": "error" if messages else "success", "completed": not messages, "messages": messages}
        self.history[number] = json.loads(
            json.dumps({"prompt": [1, number, prompt, extra, ["1"]], "outputs": {"1": ui}, "status": status})
        )
        await say(messages[0][0] if messages else "execution_success", node_id="1")
