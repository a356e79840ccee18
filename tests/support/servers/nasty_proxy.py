"""A proxy before a ComfyUI that does what proxies and networks do to people: cuts, silence, lost answers, logins."""

import asyncio
import json
import random
from collections import Counter

from .threaded import Threaded

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host", "upgrade"}


class NastyProxy(Threaded):
    """Hands on to `upstream`, with faults that a test sets and changes while it runs.

    cut_s: websockets are cut after so long. drop: the share of websocket messages that are lost. silent_s: after so
    long a websocket stays open and says nothing. busy: the share of requests answered with 502 or 503. lose: the share
    of POST /prompt that is delivered and whose answer is lost. late: so many s a lost prompt is delivered later.
    break_off: the share of downloads cut half-way. stall: the share of requests that wait `stall_s` first.
    login: what is answered to those without `secret` (a header): 401, 302 or "page". prefix: before all paths;
    with moves, requests without it are sent on to it. login_after_prompt: `login` from the first prompt on.
    `delivered` counts how often each job came to the server.
    """

    def __init__(self, web, client, upstream, *, seed=0, secret=("X-Key", "abc"), prefix="", **faults):
        self.web, self.client, self.upstream, self.secret, self.prefix = web, client, upstream, secret, prefix
        self.random, self.delivered, self.done = random.Random(seed), Counter(), Counter()
        self.cut_s = self.silent_s = self.login = self.login_after_prompt = None
        self.moves = False
        self.drop = self.busy = self.lose = self.late = self.break_off = self.stall = 0.0
        self.stall_s, self.next_busy = 0.05, []
        self.set(**faults)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self.handle)
        super().__init__(web, app)
        self.session, self.later = None, set()

    def set(self, **faults):
        """Change the faults from now on."""
        for name, value in faults.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    def close(self):
        async def end():
            await asyncio.gather(*self.later, return_exceptions=True)
            if self.session:
                await self.session.close()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(30)
        super().close()

    async def handle(self, request):
        self.session = self.session or self.client.ClientSession(auto_decompress=False)
        if not request.path.startswith(self.prefix):
            moved = {"Location": self.prefix + request.path_qs}
            return self.web.Response(status=308, headers=moved) if self.moves else self.web.Response(status=404)
        path = request.path[len(self.prefix) :]
        if (
            self.login
            and request.headers.get(self.secret[0]) != self.secret[1]
            and self.secret[1] not in request.query_string
        ):
            return self.refused()
        if path == "/ws":
            return await self.socket(request)
        if self.chance("stall", self.stall):
            await asyncio.sleep(self.stall_s)
        if self.next_busy or self.chance("busy", self.busy):
            status = self.next_busy.pop(0) if self.next_busy else self.random.choice((502, 503))
            return self.web.Response(status=status, text="<html>Bad Gateway</html>", content_type="text/html")
        return await self.handed_on(request, path)

    def refused(self):
        if self.login == 401:
            return self.web.Response(status=401)
        if self.login == 302:
            return self.web.Response(status=302, headers={"Location": "/login?next=/"})
        page = '<!DOCTYPE html><form>Please log in <input type="password"></form>'
        return self.web.Response(text=page, content_type="text/html")

    def chance(self, what, share):
        happens = self.random.random() < share
        self.done[what] += happens
        return happens

    async def handed_on(self, request, path):
        body = await request.read()
        prompt = request.method == "POST" and path == "/prompt"
        lost = prompt and self.chance("lose", self.lose)
        if lost and self.late:
            self.later.add(asyncio.ensure_future(self.deliver_late(request, path, body)))
            return self.gone(request)
        if prompt:
            self.delivered[json.loads(body)["extra_data"]["cvl_job"]] += 1
        answer = await self.ask(request, path, body)
        if prompt and self.login_after_prompt:
            self.login = self.login_after_prompt
        if lost:
            return self.gone(request)
        if path == "/view" and self.chance("break_off", self.break_off):
            return await self.half(request, answer)
        return answer

    async def deliver_late(self, request, path, body):
        await asyncio.sleep(self.late)
        self.delivered[json.loads(body)["extra_data"]["cvl_job"]] += 1
        await self.ask(request, path, body)

    async def ask(self, request, path, body):
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        query = request.query_string
        url = self.upstream + path + (f"?{query}" if query else "")
        async with self.session.request(
            request.method, url, data=body or None, headers=headers, allow_redirects=False
        ) as found:
            kept = {
                key: value for key, value in found.headers.items() if key.lower() not in _HOP - {"content-encoding"}
            }
            return self.web.Response(status=found.status, headers=kept, body=await found.read())

    def gone(self, request):
        request.transport.abort()
        return self.web.Response(status=500)

    async def half(self, request, whole):
        answer = self.web.StreamResponse(headers={"Content-Length": str(len(whole.body) + 10)})
        await answer.prepare(request)
        await answer.write(whole.body[: len(whole.body) // 2])
        request.transport.close()
        return answer

    async def socket(self, request):
        ours = self.web.WebSocketResponse()
        await ours.prepare(request)
        begin = self.loop.time()
        async with self.session.ws_connect(self.upstream + "/ws", params=request.query, max_msg_size=0) as theirs:

            async def down():
                async for message in theirs:
                    silent = self.silent_s is not None and self.loop.time() - begin > self.silent_s
                    if silent or self.chance("drop", self.drop):
                        continue
                    if message.type is self.client.WSMsgType.TEXT:
                        await ours.send_str(message.data)
                    else:
                        await ours.send_bytes(message.data)

            async def up():
                async for message in ours:
                    await theirs.send_str(message.data)

            tasks = {asyncio.ensure_future(down()), asyncio.ensure_future(up())}
            await asyncio.wait(tasks, timeout=self.cut_s, return_when=asyncio.FIRST_COMPLETED)
            self.done["cut"] += 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if request.transport:
                request.transport.abort()
        return ours
