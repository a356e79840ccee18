"""The examples in the cores' docstrings run, and every way into a core has one."""

import doctest
import importlib
import pkgutil

import pytest

WAYS_IN = {  # core: the functions that its README or architecture page calls the way in
    "clip_core": {"plan_prompt", "encode_packed", "find_clip", "text_features", "image_features", "classify"},
    "vae_core": set(),
    "lora": {"read", "match", "fuse", "apply", "with_patches"},
    "doctor": {"judge"},
}


def modules(core: str) -> list[str]:
    package = importlib.import_module(f"clip_vae_lora.{core}")
    return [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


MODULES = {core: modules(core) for core in WAYS_IN}


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [found for found in doctest.DocTestFinder().find(module, name) if found.examples]


@pytest.mark.parametrize("name", [name for names in MODULES.values() for name in names])
def test_examples_give_what_they_say(name):
    runner = doctest.DocTestRunner()
    said: list[str] = []
    for example in examples(name):
        runner.run(example, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


@pytest.mark.parametrize("core", WAYS_IN)
def test_every_way_in_has_an_example(core):
    shown = {example.name.rpartition(".")[2] for name in MODULES[core] for example in examples(name)}
    assert WAYS_IN[core] <= shown
