"""A small web server of a test's own, on a thread and a free port."""

import asyncio
import threading


class Threaded:
    """Serves an aiohttp application until `close`, over https with an `ssl_context`."""

    def __init__(self, web, app, ssl_context=None):
        self.loop = asyncio.new_event_loop()
        self.runner = web.AppRunner(app, shutdown_timeout=0.2)
        self.loop.run_until_complete(self.runner.setup())
        self.loop.run_until_complete(web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=ssl_context).start())
        self.url = f"http{'s' if ssl_context else ''}://127.0.0.1:{self.runner.addresses[0][1]}"
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def close(self):
        """End it, and what its handlers have left running."""
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(30)
        asyncio.run_coroutine_threadsafe(_end_the_rest(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()


async def _end_the_rest():
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
