"""A folder of pretended pictures and the place of an index of it."""

import pytest

from ..support.files.index_parts import make


@pytest.fixture
def places(tmp_path):
    """The index's folder and the pictures' folder."""
    make(tmp_path / "pictures", 30)
    return tmp_path / "indexes" / "a", tmp_path / "pictures"
