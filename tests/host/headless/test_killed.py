"""A batch on a real ComfyUI, killed at random moments without a warning: nothing is lost, nothing is done twice."""

import json
import urllib.request
from pathlib import Path

import pytest

from ...support.servers.killing import Killer, Watched, killed
from ...support.servers.serving import served

ROWS, KILLS = 100, 20
WORKFLOW = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 2, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "of row"}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    "4": {"class_type": "CVL_CompareImages", "inputs": {"first": ["1", 0], "second": ["1", 0], "amplify": 4.0}},
}


def bytes_of(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_batch_killed_twenty_times_is_done_once_on_a_real_server(comfyui_path, tmp_path_factory, tmp_path):
    import aiohttp
    from aiohttp import web

    base, out_folder = tmp_path_factory.mktemp("server"), tmp_path / "out"
    (tmp_path / "w.json").write_text(json.dumps(WORKFLOW))
    (tmp_path / "rows.csv").write_text("\n".join(["1.color,2.filename_prefix"] + [f"{n},{n}/x" for n in range(ROWS)]))
    arguments = [tmp_path / "w.json", "--batch", tmp_path / "rows.csv", "--output", out_folder, "--json"]
    with served(comfyui_path, base) as address:
        before = Watched(Killer(2), web, aiohttp, address)
        try:
            code, out, err = killed(before.killer, KILLS, *arguments, "--server", before.url)
        finally:
            before.close()
        assert code == 0, err
        history = json.load(urllib.request.urlopen(f"{address}/history", timeout=60))
    jobs = json.loads(out)["jobs"]
    assert [job["state"] for job in jobs] == ["done"] * ROWS and any(job["before"] for job in jobs)
    assert {job["job"] for job in jobs} == set(history) and len(history) == ROWS
    assert all(entry["status"]["status_str"] == "success" for entry in history.values())
    assert sorted(entry["prompt"][0] for entry in history.values()) == list(range(ROWS))  # the server took no other
    assert (base / "log.txt").read_text(errors="replace").count("Prompt executed in") == ROWS
    assert set(before.delivered.values()) == {1} and len(before.delivered) == ROWS
    (out_folder / "cvl_batch.sqlite").unlink()
    assert bytes_of(out_folder) == sorted(bytes_of(base / "output") + bytes_of(base / "temp"))  # and no half of one
    for number, job in enumerate(jobs):
        saved = [path for path in job["files"] if Path(path).parent == out_folder / str(number)]
        assert len(saved) == 2 and len(set(job["files"])) == len(job["files"])
        assert all(Path(path).is_file() for path in job["files"]) and job["outputs"]["4"]["text"]
