"""A small fake of ComfyUI's server, with the routes that a remote run uses."""

import asyncio
import threading

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
        self.tasks, self.running = set(), []
        app = web.Application()
        app.add_routes(
            [
                web.get("/system_stats", self.system_stats),
                web.get("/queue", self.get_queue),
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

    async def system_stats(self, request):
        if self.ending == "no ComfyUI":
            return self.web.Response(text="<html>It works!</html>")
        return self.web.json_response({"system": {"comfyui_version": "0.33.0"}, "devices": []})

    async def get_queue(self, request):
        running = [[1, number, {}, {}, []] for number in self.running]
        return self.web.json_response({"queue_running": running, "queue_pending": []})

    async def object_info(self, request):
        name = request.match_info["name"]
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
        self.running.append(number)

        async def say(kind, **data):
            await socket.send_json({"type": kind, "data": {"prompt_id": number, **data}})

        await socket.send_json({"type": "executing", "data": {"node": None, "prompt_id": "another-run"}})
        await socket.send_bytes(b"\0\0\0\1preview")
        await say("execution_start")
        await say("executing", node="2")
        for done in range(1, 5):
            await say("progress", value=done, max=4, node="2")
        if self.ending == "error":
            wrong = {"node_id": "2", "node_type": "Sampler", "exception_type": "RuntimeError", "traceback": []}
            wrong["exception_message"] = "out of memory\ntry less"
            await say("execution_error", **wrong)
            self.end(number, {}, ["execution_error", wrong])
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
            self.end(number, {}, ["execution_interrupted", {"node_id": "2"}])
        elif self.ending == "lost":  # as after a restart: neither queue nor history knows it
            self.running.remove(number)
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
        self.end(number, {"3": {"images": [self.saved, preview]}})

    def end(self, number, outputs, *messages):
        """Out of the queue, into the history."""
        self.running.remove(number)
        status = {"status_str": "error" if messages else "success", "completed": not messages, "messages": messages}
        self.history[number] = {"outputs": outputs, "status": status}

    async def get_history(self, request):
        number = request.match_info["id"]
        return self.web.json_response({number: self.history[number]} if number in self.history else {})

    async def view(self, request):
        name = request.query["filename"]
        return self.web.Response(body=self.images[name]) if name in self.images else self.web.Response(status=404)
