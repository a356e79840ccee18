"""Digits of scikit-learn as a stranger has them: a folder of PNGs for each digit, one command, a CLIP from scratch.

    python benchmarks/learning/clip_digits.py [--folder FOLDER] [--threads N] [--steps N]

1797 pictures of 8 x 8 px in the folders `the_digit_zero` to `the_digit_nine`; then `cvl train clip FOLDER`, with
nothing else said unless `--steps` is given. Told are the share of held-out pictures whose "a photo of the digit
seven" is chosen among the ten, and the seconds that passed and that the processor worked.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "headless"))
import checkout

checkout.bind()
sys.path.pop(0)

from clip_vae_lora.files.images import write_png  # noqa: E402
from clip_vae_lora.headless.training.clip_command import main as train_clip  # noqa: E402

WORDS = "zero one two three four five six seven eight nine".split()


def write_digits(folder: Path) -> int:
    """A PNG of each picture, black on white where it has no ink; returns how many there are."""
    from sklearn.datasets import load_digits

    found = load_digits()
    for number, (picture, digit) in enumerate(zip(torch.tensor(found.images).float() / 16, found.target.tolist())):
        place = folder / f"the_digit_{WORDS[digit]}"
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{number:04}.png", (1 - picture)[..., None].expand(-1, -1, 3), {})
    return len(found.target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the pictures and the file go, and stay")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as place:
        base = options.folder or Path(place)
        count = write_digits(base / "digits")
        more = [] if options.steps is None else ["--steps", str(options.steps)]
        begun, worked = time.monotonic(), time.process_time()
        with redirect_stdout(StringIO()) as printed:
            code = train_clip([str(base / "digits"), "--output", str(base / "out"), "--json", *more])
        if code:
            raise SystemExit(code)
        passed, worked = time.monotonic() - begun, time.process_time() - worked
    told = json.loads(printed.getvalue())
    last = told["validation"][-1]
    low, high = last["interval"]
    print(f"{count} pictures, {told['start']}, {told['steps']} steps, {told['numbers_trained']:,} numbers")
    print(f"{last['pictures']} held-out pictures: {last['accuracy']:.1%} right (95 % interval {low:.1%} to {high:.1%})")
    print(f"{passed:.0f} s passed, the processor worked {worked:.0f} s on {options.threads} threads")


if __name__ == "__main__":
    main()
