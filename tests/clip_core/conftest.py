"""Lends the tests of this folder the tiny networks."""

import pytest

from ..support import clip_networks


@pytest.fixture(scope="session")
def networks():
    return clip_networks
