"""A run killed by the operating system in the middle of a download: the next one removes what it left."""

import json

from ...support.servers.killing import Killer, Watched, start
from ...support.servers.queue_server import prompt_of


class AtTheDownload(Watched):
    """Has the killer kill in the middle of the first download."""

    async def handle(self, request):
        if request.path == "/view" and not self.killer.kills:
            self.killer.at = self.killer.requests
        return await super().handle(request)


def test_half_a_download_is_removed_by_the_next_run(web, queue_server, tmp_path):
    import aiohttp

    server, killer, out_folder = queue_server(job_s=0.01), Killer(1), tmp_path / "out"
    before = AtTheDownload(killer, web, aiohttp, server.url)
    (tmp_path / "w.json").write_text(json.dumps(prompt_of("a")))
    command = [tmp_path / "w.json", "--output", out_folder, "--json", "--server", before.url]
    try:
        killer.process = process = start(*command)
        process.communicate()
        assert process.returncode == -9 and [path.suffix for path in out_folder.iterdir()] == [".part"]
        process = start(*command)
        out, err = process.communicate()
    finally:
        before.close()
    assert process.returncode == 0, err
    assert sorted(map(str, out_folder.iterdir())) == sorted(json.loads(out)["images"])
