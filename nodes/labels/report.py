"""What Learn Labels reports: how it was learned, how good it is, and what to label next."""

from __future__ import annotations

from ...clip_core.few_labels.choosing import Trial
from ...clip_core.few_labels.learning import Learned
from ...clip_core.few_labels.measuring import Measured
from .learning import Lesson

FEW = 30  # held-out pictures, below which an accuracy says little


def report_of(lesson: Lesson, path: str, written: str) -> tuple[list[str], dict]:
    """The lines and the data of a report; the paths are those of the saved labels and of what was written."""
    learned = lesson.learned
    sure = [number for number in learned.unlabelled if lesson.answer(number)[1] >= lesson.threshold]
    lines = [_how(learned), *_held_out_lines(learned)]
    if learned.unlabelled:
        lines.append(
            f"{len(sure)} of {len(learned.unlabelled)} pictures without a label are sure by {lesson.threshold:.0%} or "
            "more"
        )
    if learned.agreement is not None:
        lines.append(f"agrees with zero-shot on {learned.agreement:.1%} of them")
    classes = _classes(lesson)
    lines += [f"{name}: {one['labels']} labels, {one['pictures']} pictures" for name, one in list(classes.items())[:20]]
    asked = [(lesson.names[number], *lesson.answer(number)) for number in lesson.ask]
    if asked:
        lines.append("to label next:")
        lines += [f"{name}: {label}, {share:.1%}" for name, label, share in asked[:12]]
    notes = [*lesson.notes, *_advice(learned)]
    data = {
        "method": learned.candidate.method,
        "setting": list(learned.candidate.setting),
        "chosen": learned.is_chosen,
        "trials": [_trial(one) for one in learned.trials],
        "temperature": learned.labels.temperature,
        "held_out": _measured(learned.held_out),
        "held_out_as_new": _measured(learned.held_out_new),
        "zero_shot": _measured(learned.words),
        "agreement": None if learned.agreement is None else round(learned.agreement, 6),
        "threshold": lesson.threshold,
        "unlabelled": len(learned.unlabelled),
        "sure": len(sure),
        "classes": classes,
        "to_label_next": [{"name": name, "label": label, "probability": round(p, 6)} for name, label, p in asked],
        "file": path,
        "written": written,
        "device": str(learned.task.features.device),
        "dtype": "float64",
        "notes": notes,
    }
    return [*lines, *notes], data


def _how(learned: Learned) -> str:
    count = len(learned.task.known)
    if learned.is_chosen and len(learned.trials) > 1:
        return f"learned from {count} labels by {learned.candidate.method}, which cross-validation chose"
    return f"learned from {count} labels by {learned.candidate.method}"


def _held_out_lines(learned: Learned) -> list[str]:
    found = learned.held_out
    if found is None:
        return ["no label was held out, so nothing says how good this is"]
    lines = [
        f"held out: {found.right} of {found.count} right, {found.accuracy:.1%} (95 % interval {found.low:.1%} to "
        f"{found.high:.1%}), calibration error {found.calibration_error:.1%}"
    ]
    if learned.held_out_new is not None:
        lines.append(f"the same as new pictures: {learned.held_out_new.accuracy:.1%}")
    if learned.words is not None:
        lines.append(f"the same by zero-shot: {learned.words.accuracy:.1%}")
    return lines


def _advice(learned: Learned) -> list[str]:
    notes = []
    if not learned.is_chosen:
        notes.append(
            "each class has one label only, so that nothing could be cross-validated: probabilities are not calibrated"
        )
    if learned.held_out is not None and learned.held_out.count < FEW:
        notes.append(f"{learned.held_out.count} held-out labels say little: label more pictures")
    return notes


def _classes(lesson: Lesson) -> dict[str, dict[str, int]]:
    """The labels and the pictures of each class; the pictures are those that it is the answer for."""
    learned = lesson.learned
    answers = [lesson.answer(number)[0] for number in range(len(lesson.names))]
    given = zip(learned.labels.classes, learned.task.counts)
    return {name: {"labels": count, "pictures": answers.count(name)} for name, count in given}


def _trial(trial: Trial) -> dict:
    return {
        "method": trial.candidate.method,
        "setting": list(trial.candidate.setting),
        "right": trial.right,
        "of": trial.count,
        "loss": round(trial.loss, 6),
    }


def _measured(found: Measured | None) -> dict | None:
    if found is None:
        return None
    return {
        "right": found.right,
        "of": found.count,
        "accuracy": round(found.accuracy, 6),
        "interval": [round(found.low, 6), round(found.high, 6)],
        "calibration_error": round(found.calibration_error, 6),
        "sure": found.covered,
        "sure_and_right": found.covered_right,
    }
