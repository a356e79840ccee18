"""The servers of the tests beside, and a workflow whose jobs differ by their text."""

from ..remote.conftest import go, proxy, queue_server, web

__all__ = ["go", "proxy", "queue_server", "web"]
