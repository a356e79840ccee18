"""A folder embedded from the shell, alone and by two processes, into the index that the nodes read."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import clip_vae_lora.headless.checkout as checkout
from clip_vae_lora.headless import embed
from clip_vae_lora.index.reading import open_index

ROOT = Path(checkout.__file__).resolve().parents[1]
MODEL = ROOT / "models" / "tiny_clip.safetensors"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "output" / "pictures"
    folder.mkdir(parents=True)
    for number in range(11):
        Image.new("RGB", (8, 8), (number * 20, 255 - number * 20, 9)).save(folder / f"{number:02}.png")
    (folder / "bad.png").write_text("no picture")
    return folder


def run(pictures, index, *more):
    return embed.main(
        [str(pictures), "--model", str(MODEL), "--index", str(index), "--every", "2", "--workers", "1", *more]
    )


def rows(index) -> dict[str, torch.Tensor]:
    found = open_index(index)
    assert found.facts.remaining == 0 and found.skipped == 1 and not any(len(dead) for dead in found.dead)
    return {p.path: row for p, row in zip(found.pictures(range(found.rows)), torch.cat(found.blocks))}


def test_one_process_embeds_once(pictures, capsys):
    index = pictures.parent / "cvl_index" / "a"
    assert run(pictures, index) == 0 and "11 pictures can be searched now" in capsys.readouterr().out
    assert sorted(rows(index)) == [f"{n:02}.png" for n in range(11)]
    assert run(pictures, index) == 0 and "0 new, 0 changed, 12 as before" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_make_the_same_index_and_begin_where_one_left_off(pictures, monkeypatch, capsys):
    alone, shared = (pictures.parent / "cvl_index" / name for name in ("alone", "shared"))
    assert run(pictures, alone) == 0
    write, written = embed.write_shard, []

    def stop(*arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(*arguments))

    monkeypatch.setattr(embed, "write_shard", stop)
    assert run(pictures, shared) == 130 and len(list(shared.glob("shard_*"))) == 2
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        str(ROOT / "headless/embed.py"),
        str(pictures),
        "--model",
        str(MODEL),
        "--index",
        str(shared),
        "--every",
        "2",
        "--workers",
        "1",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "8 new" in result.stdout  # 4 of 12 were in the two shards
    one, two = rows(alone), rows(shared)
    assert one.keys() == two.keys() and set(written) <= {path.name for path in shared.iterdir()}
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-5, rtol=0)  # batches of other sizes


def test_what_is_wrong_is_one_line(pictures, capsys, tmp_path):
    index = pictures.parent / "cvl_index" / "a"
    assert run(tmp_path / "nowhere", index) == 1
    assert run(pictures, index, "--model", str(tmp_path / "none.safetensors")) == 1
    assert run(pictures, index, "--batch", "0") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
