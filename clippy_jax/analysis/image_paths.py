"""The images that a user names: files, and folders of them."""

import collections
import pathlib
from collections.abc import Sequence

from clippy_jax.datasets import image_file, image_folder
from clippy_jax.errors import InputError


def list_images(places: Sequence[str]) -> list[pathlib.Path]:
    """Image files as they are named, and those that lie directly in folders.

    Raises:
      InputError: something does not exist, or a folder holds no image.
    """
    paths = []
    for place in places:
        if "://" in place:
            raise InputError(f"{place} is an address, not a file; fetch it first")
        place = pathlib.Path(place)
        if not place.is_dir():
            if not place.exists():
                raise InputError(f"{place} cannot be read as an image: it does not exist")
            paths.append(place)
        elif in_folder := image_folder.list_folder(place):
            paths += in_folder
        else:
            raise InputError(f"{place} holds no image ({', '.join(image_file.ENDINGS)})")
    return list(dict.fromkeys(paths))


def file_stems(paths: Sequence[pathlib.Path]) -> list[str]:
    """What the names of each image's files begin with: its own name, with its ending where two share the rest.

    Raises:
      InputError: two images of different folders have the same name.
    """
    shared = collections.Counter(path.stem for path in paths)
    stems = [path.stem if shared[path.stem] == 1 else path.name for path in paths]
    for stem, count in collections.Counter(stems).items():
        if count > 1:
            raise InputError(f"two images are called {stem}: rename one, or write to a folder each")
    return stems
