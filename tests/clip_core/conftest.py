"""Lends the tests of this folder the tiny networks of `networks.py`, which cannot be imported by name."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("_cvl_clip_networks", Path(__file__).with_name("networks.py"))
_networks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_networks)


@pytest.fixture(scope="session")
def networks():
    return _networks
