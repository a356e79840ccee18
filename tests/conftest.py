"""The pack under its fixed name, the root `__init__` not executed, `sys.path` untouched; and where the real data
lie.
"""

import importlib.util
from pathlib import Path

import hypothesis
import pytest

# whether a law holds does not depend on what else the machine does: no example has a time of its own
_ANY_MACHINE = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# the same examples at each run, so that what fails is the change; `--hypothesis-profile=search` looks at others
hypothesis.settings.register_profile("pack", _ANY_MACHINE, derandomize=True)
hypothesis.settings.register_profile("search", _ANY_MACHINE, max_examples=1000)
hypothesis.settings.load_profile("pack")

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

_spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
_checkout = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_checkout)
_checkout.bind()


def pytest_configure(config: pytest.Config) -> None:
    """CVL_TEST_DEVICE is looked at first: one that is not there ends the run with one sentence."""
    try:
        from .support.cards import device  # noqa: F401  here: it needs the pack under its name
    except ValueError as error:
        pytest.exit(str(error), returncode=4)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights, LoRAs and photographs beside the project; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real files in ../shared/data, which are not part of this project")
    return SHARED_DATA
