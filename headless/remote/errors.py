"""What can go wrong between us and a server, each in one sentence for the person who waits."""

from __future__ import annotations


class ServerError(RuntimeError):
    """The server cannot be reached, refused, or went away."""


class Unreachable(ServerError):
    """Nobody answered. `sent`: what we had to say may have arrived all the same; `hopeless`: no use in another try."""

    def __init__(self, sentence: str, *, sent: bool = False, hopeless: bool = False):
        super().__init__(sentence)
        self.sent, self.hopeless = sent, hopeless


class LoginNeeded(ServerError):
    """Somebody in front of the server wants to know who we are."""


class NotComfyUI(ServerError):
    """Something answers, and it is no ComfyUI."""


class TimedOut(ServerError):
    """The job took longer than it was given."""


class JobLost(ServerError):
    """The server no longer knows a job that it had taken."""


class Interrupted(Exception):
    """Somebody stopped the run."""


class NotTold(Interrupted):
    """We were stopped, and could not tell the server: the job may go on there."""
