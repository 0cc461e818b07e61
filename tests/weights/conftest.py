"""The same public weights for all tests here; each fixture is a file or folder that no test changes."""

import pytest
import torch

from tests.weights import public_files


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def dino_file(weights_folder):
    path = weights_folder / "dino.pth"
    torch.save(public_files.dino(), path)
    return str(path)


@pytest.fixture(scope="session")
def clippy_file(weights_folder):
    """With the optimizer's state, as the public code saves it."""
    contents = public_files.clippy()
    contents["optimizer"] = public_files.adamw(contents["state_dict"]).state_dict()
    path = weights_folder / "clippy_5k.pt"
    torch.save(contents, path)
    return str(path)


@pytest.fixture(scope="session")
def text_folder(weights_folder, spiece_folder):
    """A Sentence-T5 of the layout of sentence-transformers 2.2."""
    folder = weights_folder / "sentence-t5"
    public_files.save_folder_22(folder, spiece_folder)
    return str(folder)
