"""The examples in vae_core's docstrings run, and its ways in have one."""

import doctest
import importlib
import pkgutil

import pytest

from clip_vae_lora import vae_core

MODULES = [found.name for found in pkgutil.walk_packages(vae_core.__path__, "clip_vae_lora.vae_core.")]
WAYS_IN = ("find_vae", "decode", "encode", "largest_plan")


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [found for found in doctest.DocTestFinder().find(module, name) if found.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    runner = doctest.DocTestRunner()
    said: list[str] = []
    for example in examples(name):
        runner.run(example, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_every_way_in_has_an_example():
    shown = {example.name.rpartition(".")[2] for name in MODULES for example in examples(name)}
    assert set(WAYS_IN) <= shown
