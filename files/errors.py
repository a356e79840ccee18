"""The one error of this folder: what is wrong with a file, in a sentence for the person at the screen."""

from os import PathLike
from pathlib import Path


class FileFormatError(ValueError):
    """`NAME: sentence`, where NAME is the file's name; `.path` is the whole path."""

    def __init__(self, path: str | PathLike, sentence: str):
        self.path = Path(path)
        self.sentence = sentence
        super().__init__(f"{self.path.name or self.path}: {sentence}")

    def __reduce__(self):
        return type(self), (self.path, self.sentence)
