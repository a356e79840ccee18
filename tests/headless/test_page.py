"""headless/README.md: every option is on it and every option on it is there, its Python runs, its files are read."""

import argparse
import re
import shlex

import pytest

from clip_vae_lora import headless
from clip_vae_lora.headless import check_command, command
from clip_vae_lora.headless.batch.rows import read_rows
from clip_vae_lora.headless.cvl import _COMMANDS
from clip_vae_lora.headless.labels import command as labels_command
from clip_vae_lora.headless.lora import command as lora_command
from clip_vae_lora.headless.training import clip_command, plan
from clip_vae_lora.headless.training import command as training_command

from ..support.servers.queue_server import INFO, prompt_of
from ..support.trip import ROOT
from .remote.conftest import queue_server, web

__all__ = ["queue_server", "web"]
PAGE = (ROOT / "headless" / "README.md").read_text(encoding="utf-8")
OPTION = re.compile(r"--[a-z][a-z-]+")


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {text for action in parser._actions for text in action.option_strings if text.startswith("--")}


def lora_parsers() -> dict[str, argparse.ArgumentParser]:
    parser = lora_command._parser("cvl lora")
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_page_names_the_options_that_there_are_and_no_other():
    there = options(command._parser("cvl run"))
    assert options(check_command._parser("cvl check")) <= there
    named = set(OPTION.findall(PAGE)) - {"--nproc-per-node", "--index"}  # torchrun's own, and that of `cvl embed`
    trainers = [training_command._parser(f"cvl train {kind.what}", kind) for kind in (plan.LORA, plan.VAE)]
    others = [*lora_parsers().values(), *trainers, labels_command._parser("cvl learn")]
    others.append(clip_command._parser("cvl train clip"))
    assert named <= there.union(*map(options, others)) and there - named <= {"--help", "--verbose", "--models"}
    assert set(re.findall(r"`?cvl (\w+)", PAGE)) <= set(_COMMANDS)


def test_every_lora_command_is_on_the_page_and_every_line_of_it_is_one_that_the_command_takes():
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("cvl lora ")]
    assert {line.split()[2] for line in lines} == set(lora_parsers()) == set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M))
    for line in lines:
        lora_command._parser("cvl lora").parse_args(shlex.split(line)[2:])


def test_the_errors_that_the_page_names_can_be_imported_and_caught():
    names = re.findall(r"`(\w+(?:Error|Failure|Failed|rupted))`", PAGE)
    assert len(names) == 6 and all(issubclass(getattr(headless, name), Exception) for name in names)
    assert set(names) <= set(headless.__all__)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_the_files_of_rows_that_the_page_shows_are_read(tmp_path, name):
    (tmp_path / name).write_text(blocks("csv")[0] if name == "rows.csv" else re.search(r'`(\{"3.*?\})`', PAGE)[1])
    assert read_rows(tmp_path / name)[0].settings == ("3.seed=7", "Prompt.text=a cat")


@pytest.mark.parametrize("number", range(2))
def test_the_python_that_the_page_shows_runs(queue_server, tmp_path, monkeypatch, number):
    monkeypatch.setitem(INFO, "Save", {**INFO["Save"], "input": {"required": {"text": ["STRING"], "seed": ["INT"]}}})
    server = queue_server()
    (tmp_path / "workflow.json").write_text('{"3": {"class_type": "Save", "inputs": {"text": "a", "seed": 1}}}')
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    run = type(server).run

    async def saved(self, job_id, prompt, extra):
        inputs = {"text": f"seed {prompt['3']['inputs']['seed']}", "count": 1}
        await run(self, job_id, prompt_of(**inputs), extra)

    monkeypatch.setattr(type(server), "run", saved)
    exec(blocks("python")[number].replace("http://127.0.0.1:8188", server.url), names)
    if number:
        assert [result.files[0].name for result in names["results"]] == ["seed 9_0.png", "seed 10_0.png"]
        return
    assert names["result"].files == (tmp_path / "pictures" / "seed 7_0.png",)
    assert names["prompt"]["3"]["inputs"]["seed"] == 8 and (tmp_path / "pictures" / "seed 8_0.png").is_file()
    assert [job["state"] for job in names["jobs"]] == ["done"] * 4 and len(server.ran) == 6
