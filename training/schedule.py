"""Learning rate over the course of a training."""

import math


def warm_cosine(step: int, steps: int, warm_up: int, floor: float = 0.02) -> float:
    """Factor on the learning rate at `step` of 0..steps-1: a straight climb over `warm_up` steps, then half a cosine
    down to `floor`. 0..1
    """
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
