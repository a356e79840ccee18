"""Question + answer -> statement. CLIP compares pictures with statements, so it can choose among answers.

The rules of `question_rules.RULES` are tried in their order. A question that none of them knows becomes "question
answer", which CLIP often still understands.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .question_rules import RULES, says_no

_PLACE = re.compile(r"\{(?:answer)?\}")
_IN_THE_PICTURE = re.compile(r"^(?:in|on) (?:the|this) (?:picture|image|photo|photograph)s?,? (?=\w+ )", re.IGNORECASE)
_SHORT = {
    "what's": "what is",
    "who's": "who is",
    "where's": "where is",
    "when's": "when is",
    "how's": "how is",
    "isn't": "is not",
    "aren't": "are not",
}


@dataclass(frozen=True)
class Statements:
    """One statement for each answer."""

    texts: tuple[str, ...]
    rule: str  # the name of the rule that made them
    denies: bool = False  # one of them is a denial, and CLIP hardly notices a "not"


def fill(pattern: str, answer: str) -> str:
    """Fill a pattern with an answer, at {answer} or {}.

    Raises:
        ValueError: the pattern has no {answer}.
    """
    if not _PLACE.search(pattern):
        raise ValueError(f"the pattern {pattern!r} has no place for the answer; put {{answer}} where it goes")
    return _PLACE.sub(lambda _: answer, pattern)


def _plain(question: str) -> str:
    """Simplify a question: one line without its question mark, short forms written out, first word in lower case."""
    words = question.strip().rstrip("?.! ").replace("\u2019", "'").split()
    text = " ".join(_SHORT.get(word.lower(), word) for word in words)
    first, _, rest = _IN_THE_PICTURE.sub("", text).partition(" ")
    return f"{first.lower()} {rest}".strip()


def statements(question: str, answers: Sequence[str], pattern: str = "") -> Statements:
    """Make a statement of each answer: by the user's own pattern with {answer} in it, or by the question's rule.

    Raises:
        ValueError: there is no question and no pattern, or no answer, or the pattern has no {answer}.
    """
    if not all(answer.strip() for answer in answers) or not answers:
        raise ValueError("there are no answers to choose from; write one a line, or several with commas between them")
    own = pattern.strip() or (question.strip() if _PLACE.search(question) else "")
    if own:
        return Statements(tuple(fill(own, answer) for answer in answers), "own pattern")
    asked = _plain(question)
    if not asked:
        raise ValueError("there is no question; write one, such as: what colour is the circle?")
    for name, rule in RULES.items():
        made = rule(asked, answers)
        if made is not None:
            texts = tuple(" ".join(made(answer).split()) for answer in answers)
            denies = name in ("is there", "is it", "does it") and any(map(says_no, answers))
            return Statements(texts, name, denies)
    return Statements(tuple(f"{asked} {answer}" for answer in answers), "question and answer")
