"""Folders of pictures searched by words and pictures."""

from . import duplicates, index_folder, search_images

NODES = {**index_folder.NODES, **search_images.NODES, **duplicates.NODES}
