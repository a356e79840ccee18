"""1,000 jobs in a row from 4 clients on one running ComfyUI: how many failed, and what client and server grew by.

python benchmarks/many_jobs.py http://127.0.0.1:8188 --server-pid 1234 [--jobs 1000] [--clients 4]

Each client is a process of its own; every job makes a picture that none made before, and fetches it. Memory is that
which is resident, from the 100th job of all to the last (Linux: /proc). Prints one line of JSON.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "headless"))
import checkout

checkout.bind()
sys.path.pop(0)
from clip_vae_lora.headless.remote.client import Client  # noqa: E402

_WARM_JOBS = 100  # of all clients together


def prompt_of(client: int, number: int) -> dict:
    colour = client * 100_000 + number
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": colour}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": f"many/{client}"}},
    }


def resident_mb(pid: int | str = "self") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def one_client(url: str, client: int, jobs: int, warm: int, folder: Path) -> dict:
    """Run the jobs one after the other; memory after the warm ones, and at the end."""
    failures, saved, mb = 0, 0, {}
    async with Client(url) as server:
        for number in range(jobs):
            try:
                job = await server.submit(prompt_of(client, number))
                saved += len(await server.save(await job.wait(), folder))
            except (RuntimeError, ValueError) as error:
                print(f"client {client}, job {number}: {error}", file=sys.stderr)
                failures += 1
            if number + 1 == warm:
                print("warm", flush=True)
                mb["warm"] = resident_mb()
        return {
            "failures": failures,
            "saved": saved,
            "cuts": server.cuts,
            "warm_mb": mb["warm"],
            "end_mb": resident_mb(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--server-pid", type=int)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--client", type=int, help="of one of the processes that this starts")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    share, warm = options.jobs // options.clients, max(_WARM_JOBS // options.clients, 1)
    if options.client is not None:
        result = asyncio.run(one_client(options.url, options.client, share, warm, options.output))
        print(json.dumps(result), flush=True)
        return
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--output", folder, "--client"]
        clients = [
            subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True)
            for number in range(options.clients)
        ]
        for client in clients:
            assert client.stdout.readline() == "warm\n"
        server_warm = resident_mb(options.server_pid) if options.server_pid else 0.0
        results = [json.loads(client.communicate()[0]) for client in clients]
        files = sum(1 for file in Path(folder).rglob("*.png"))
    server_end = resident_mb(options.server_pid) if options.server_pid else 0.0
    growth = [one["end_mb"] / one["warm_mb"] - 1 for one in results]
    print(
        json.dumps(
            {
                "jobs": share * options.clients,
                "failures": sum(one["failures"] for one in results),
                "files": files,
                "seconds": round(time.perf_counter() - begin, 1),
                "client_mb": [round(one["end_mb"], 1) for one in results],
                "client_growth_percent": [round(100 * one, 2) for one in growth],
                "server_mb": [round(server_warm, 1), round(server_end, 1)],
                "server_growth_percent": round(100 * (server_end / server_warm - 1), 2) if server_warm else None,
            }
        )
    )


if __name__ == "__main__":
    main()
