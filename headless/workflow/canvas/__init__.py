"""The canvas JSON becomes the API form that the front end would send, without a browser."""

from .convert import convert, to_api
from .graphs import class_names
from .result import Converted, Shown

__all__ = ["Converted", "Shown", "class_names", "convert", "to_api"]
