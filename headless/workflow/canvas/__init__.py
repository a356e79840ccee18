"""The canvas JSON becomes the API form that the front end would send, without a browser."""

from .convert import to_api
from .graphs import class_names

__all__ = ["class_names", "to_api"]
