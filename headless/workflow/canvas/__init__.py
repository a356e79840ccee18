"""The canvas JSON becomes the API form that the front end would send, without a browser."""

from .convert import convert, to_api
from .graphs import class_names
from .result import Converted, Shown
from .versions import FrontEnd, front_end_of

__all__ = ["Converted", "FrontEnd", "Shown", "class_names", "convert", "front_end_of", "to_api"]
