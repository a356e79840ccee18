"""A batch killed at random moments, by the operating system and without a warning: nothing is lost or done twice."""

import collections
import json

import pytest

from ...support.servers.killing import Killer, Watched, killed
from ...support.servers.queue_server import prompt_of

ROWS, KILLS = 100, 20


@pytest.mark.slow
def test_a_batch_on_servers_killed_twenty_times_loses_nothing_and_does_nothing_twice(web, queue_server, tmp_path):
    import aiohttp

    servers = [queue_server(job_s=0.01) for _ in range(2)]
    killer, out_folder = Killer(1), tmp_path / "out"
    proxies = [Watched(killer, web, aiohttp, server.url) for server in servers]
    (tmp_path / "w.json").write_text(json.dumps(prompt_of("a")))
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"1.text": f"row {row}"}) for row in range(ROWS)))
    arguments = [tmp_path / "w.json", "--batch", tmp_path / "rows.jsonl", "--output", out_folder, "--json"]
    arguments += [part for proxy in proxies for part in ("--server", proxy.url)]
    try:
        code, out, err = killed(killer, KILLS, *arguments)
    finally:
        for proxy in proxies:
            proxy.close()
    assert code == 0, err
    jobs = json.loads(out)["jobs"]
    assert [job["state"] for job in jobs] == ["done"] * ROWS and any(job["before"] for job in jobs)
    ran = sum((server.ran for server in servers), collections.Counter())
    assert len(ran) == ROWS and set(ran.values()) == {1}
    files = {name: data for server in servers for name, data in server.files.items()}
    there = {path.name: path.read_bytes() for path in out_folder.iterdir() if path.name != "cvl_batch.sqlite"}
    assert len(files) == ROWS and there == files  # and no half of a file, hidden or not
    assert sorted(path for job in jobs for path in job["files"]) == sorted(str(out_folder / name) for name in files)
