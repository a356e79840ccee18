"""The nodes on the standalone host, with a models folder of the test's own."""

from types import SimpleNamespace

import pytest

from clip_vae_lora import nodes
from clip_vae_lora.nodes.host import host
from clip_vae_lora.nodes.host.alone.place import HERE

FOLDERS = ("text_encoders", "checkpoints", "vae", "vae_approx", "loras", "clip_vision", "embeddings")


@pytest.fixture
def place(tmp_path):
    """`.models`: a folder with ComfyUI's sub-folders; `.temp`; `.node(id)`: an instance of a node."""
    for folder in FOLDERS:
        (tmp_path / "models" / folder).mkdir(parents=True)
    before = HERE.models, HERE.temp, HERE.on_step, HERE.output
    host.set_place(
        models=tmp_path / "models",
        temp=tmp_path / "temp",
        on_step=lambda done, total: None,
        output=tmp_path / "output",
        inputs=[tmp_path / "input"],
    )

    def node(name):
        return nodes.NODES[name][0]()  # within its edge, where errors are of our own kinds

    yield SimpleNamespace(models=tmp_path / "models", temp=tmp_path / "temp", base=tmp_path, node=node)
    host.set_place(models=before[0], temp=before[1], on_step=before[2], output=before[3])
