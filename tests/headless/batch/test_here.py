"""A batch in this process, killed between any two steps: each picture is there once, under the number it would have."""

import os
import shutil

import pytest

from clip_vae_lora.headless.batch import here
from clip_vae_lora.headless.batch.record import Record

from ..conftest import prompt, run

__all__ = ["prompt", "run"]
GRID = ["--vary", "1.seed=1,2,3,4"]


class Killed(BaseException):
    """The end of the process, as far as the code can tell: nothing catches it."""


def pictures(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix == ".png")


@pytest.fixture
def steps(monkeypatch):
    """steps(number): the batch dies at that step; a step is a write of the record, a link, or a removal."""
    places = [(Record, "write"), (here.os, "link"), (here.Path, "unlink"), (here.shutil, "rmtree"), (here, "_run")]

    def arm(number):
        left = [number]

        def dying(real, late):
            def step(*arguments, **options):
                left[0] -= 1
                if left[0] < 0 or left[0] == 0 and not late:  # and nothing is done after the end
                    raise Killed
                answer = real(*arguments, **options)
                if left[0] == 0:
                    raise Killed
                return answer

            return step

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in places:
                patch.setattr(owner, name, dying(getattr(owner, name), number % 2))
            yield left

    return arm


def test_jobs_run_here_one_after_the_other_and_are_not_run_again(run, prompt, tmp_path):
    code, out, _ = run(prompt, *GRID)
    assert code == 0 and "4 jobs: 4 done" in out
    assert pictures(tmp_path / "out") == [f"sub/x_{number:05}_.png" for number in (1, 2, 3, 4)]
    code, out, _ = run(prompt, "--vary", "1.seed=4,5")
    assert code == 0 and "1 done before, 1 done" in out and len(pictures(tmp_path / "out")) == 5
    assert not (tmp_path / "out" / ".cvl_batch").exists()


def test_a_batch_killed_at_every_step_has_each_picture_once(run, prompt, tmp_path, steps):
    out, grid = tmp_path / "out", ["--vary", "1.seed=1,2"]
    killed = True
    number = 0
    while killed:
        number += 1
        shutil.rmtree(out, ignore_errors=True)
        for _ in steps(number):
            try:
                run(prompt, *grid)
                killed = False
            except Killed:
                assert len(pictures(out / "sub")) <= 2 if out.is_dir() else True
        code, said, _ = run(prompt, *grid)
        assert code == 0 and "2 jobs" in said and "failed" not in said
        assert pictures(out) == ["sub/x_00001_.png", "sub/x_00002_.png"], number
        assert not (out / ".cvl_batch").exists()
        assert all(os.stat(out / path).st_nlink == 1 for path in pictures(out))
    assert number > 10


def test_a_job_that_fails_here_does_not_end_the_others(run, prompt):
    code, out, err = run(prompt, "--vary", "2.filename_prefix=a,../../b,c")
    assert code == 1 and "1 of 3 jobs failed" in err and "leads out of the folder" in out


def test_bad_rows_are_named_before_anything_runs_here(run, prompt, tmp_path):
    (tmp_path / "rows.csv").write_text("1.seed,1.size\n1,2\n2,huge\n")
    code, _, err = run(prompt, "--batch", str(tmp_path / "rows.csv"))
    assert code == 2 and "rows.csv line 3" in err and not pictures(tmp_path / "out")
