"""The standalone host with models of the test's own; encodings that other tests left in the caches are forgotten."""

import pytest

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS
from clip_vae_lora.nodes.clip.features import TEXTS
from clip_vae_lora.nodes.host.alone.files import set_place
from clip_vae_lora.nodes.host.alone.place import HERE
from clip_vae_lora.nodes.host.shared.towers import ROWS

from ..nodes.conftest import FOLDERS
from ..support.calls import Calls, write_files


@pytest.fixture
def calls(tmp_path):
    """`calls(node, n)`; see `calls.Calls`."""
    for folder in FOLDERS:
        (tmp_path / "models" / folder).mkdir(parents=True)
    place = HERE
    before = place.models, place.temp, place.on_step, place.output, place.inputs
    set_place(
        models=tmp_path / "models",
        temp=tmp_path / "temp",
        on_step=lambda done, total: None,
        output=tmp_path / "output",
        inputs=[tmp_path / "input"],
    )
    ROWS.clear()
    TEXTS.clear()
    write_files(tmp_path / "models", tmp_path / "input")
    yield Calls(lambda name: NODE_CLASS_MAPPINGS[name](), tmp_path / "input")
    place.models, place.temp, place.on_step, place.output, place.inputs = before
