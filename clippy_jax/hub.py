"""What users name, as a path on this machine: a path that is there wins, else a repository of the Hugging Face hub.

Names are `hf-hub:ORG/NAME`, the same without `hf-hub:` where no path could be meant, each with `@REVISION`, and
`hf-hub:ORG/NAME/FILE`. `huggingface_hub` downloads and keeps the files, under its own variables (HF_HOME,
HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT); where a path is given, no network is touched.
"""

import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from clippy_jax.errors import InputError, reading

_PREFIX = re.compile(r"hf[-_]hub:|hf://|https://(?:www\.)?huggingface\.co/")
_PART = r"[A-Za-z0-9][\w.-]*"
_REVISION = r"refs/\w+/\w[\w.-]*|[\w./-]+?"  # of a pull request, like refs/pr/1, or any other
_NAME = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>{_REVISION}))?(?:/(?P<file>{_PART}(?:/{_PART})*))?"
)
_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".json", ".model")  # endings of files, not of repositories

Choose = Callable[[Sequence[str]], Sequence[str]]


def local_path(name: str | os.PathLike, choose: Choose, flag: str = "") -> str:
    """The path of a file or folder, after a download where its name is one of the hub.

    Args:
      name: a path, or a name on the hub.
      choose: of the names of a repository's files those that are needed, none where it has not what is wanted.
      flag: what asked for it, for messages.

    Returns:
      The path as it is, with the home folder in the place of "~", or that of the snapshot in the hub's cache. A path
      of nothing is returned, too, if it cannot be a name of the hub's: whoever reads it says what is wrong.

    Raises:
      InputError: the hub has no such repository, revision or file, it cannot be reached, or nothing there is needed.
    """
    path = os.path.expanduser(name).removeprefix("file://")
    if not path:
        raise InputError(f"{flag or 'a path of weights'} is empty; give a path, or a name on the hub: hf-hub:ORG/NAME")
    match = _match(path)
    return _snapshot(str(name), match, choose, f"{flag}: " if flag else "") if match else path


def with_commit(name: str) -> str:
    """A name on the hub with the commit that it stood for when it was last fetched; "" for anything else.

    It is read off the cache: no network is touched.
    """
    match = _match(os.path.expanduser(name))
    if match is None:
        return ""
    import huggingface_hub  # here, since it takes a while and paths need none of it

    try:
        folder = huggingface_hub.snapshot_download(  # asked for no file, it says where they lie: snapshots/COMMIT
            match["repository"], revision=match["revision"], local_files_only=True, allow_patterns=[]
        )
    except huggingface_hub.errors.LocalEntryNotFoundError:
        return ""
    file = f"/{match['file']}" if match["file"] else ""
    return f"hf-hub:{match['repository']}@{os.path.basename(folder)}{file}"


def as_path(name: str | os.PathLike) -> pathlib.Path:
    """A path with the methods of `pathlib.Path`, also where it is remote (`gs://...`)."""
    if "://" not in str(name):
        return pathlib.Path(name)
    from etils import epath  # here, since local folders need none of it

    with reading(name, "give a path, or a name on the hub: hf-hub:ORG/NAME", "is an address that is not read here"):
        return epath.Path(name)


def push(folder: str, repository: str, private: bool = False) -> str:
    """Uploads a folder into a repository of models, which is made where it is missing; returns its address.

    Raises:
      InputError: the hub refuses (nobody is logged in, missing rights) or cannot be reached.
    """
    import huggingface_hub

    with reading(f"--repo={repository}", "log in with `hf auth login` or HF_TOKEN", "cannot be pushed to"):
        api = huggingface_hub.HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by clippy_jax")
        return str(address)


def _match(path: str) -> re.Match | None:
    """The parts of a name on the hub; None for what is, or can only be, a path."""
    if os.path.exists(path):
        return None
    prefix = _PREFIX.match(path)
    match = _NAME.fullmatch(path, prefix.end() if prefix else 0)
    if prefix and not match:
        raise InputError(f"{path} is no name on the hub; write hf-hub:ORG/NAME, hf-hub:ORG/NAME@REVISION or .../FILE")
    # "runs/b16" is a path if there is a folder "runs".
    if match and not prefix and (match["file"] or path.endswith(_FILES) or os.path.isdir(path.split("/")[0])):
        return None
    return match


def _snapshot(name: str, match: re.Match, choose: Choose, flag: str) -> str:
    import huggingface_hub  # here, since it takes a while and paths need none of it
    from huggingface_hub import errors

    repository, revision, file = match["repository"], match["revision"], match["file"]
    what = f"{flag}{name}"
    try:
        with reading(what, "check the network, or give a path", "is no path, and cannot be fetched from the hub"):
            if file:
                return huggingface_hub.hf_hub_download(repository, file, revision=revision)
            try:
                about = huggingface_hub.HfApi().model_info(repository, revision=revision)  # asks once, without waiting
            except Exception as error:
                if isinstance(error, errors.HfHubHTTPError):  # the hub has answered
                    raise
                return _cached(huggingface_hub, what, repository, revision, choose, error)
            wanted = _chosen(choose, [file.rfilename for file in about.siblings or ()], what, repository)
            return huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=wanted)
    except InputError as error:
        raise _explained(error, errors, what, repository, revision, file) from error


def _cached(hub: Any, what: str, repository: str, revision: str | None, choose: Choose, failure: Exception) -> str:
    """The folder of what was downloaded before, without the network."""
    try:  # it is asked for no file, since it would miss those that were never needed
        folder = hub.snapshot_download(repository, revision=revision, local_files_only=True, allow_patterns=[])
    except hub.errors.LocalEntryNotFoundError:
        raise failure from None
    files = [os.path.relpath(os.path.join(root, file), folder) for root, _, files in os.walk(folder) for file in files]
    _chosen(choose, files, f"{what} (offline, in {folder})", repository)
    return folder


def _chosen(choose: Choose, files: Sequence[str], what: str, repository: str) -> list[str]:
    try:
        chosen = list(choose([file.replace(os.sep, "/") for file in files]))
    except InputError as error:
        raise InputError(f"{what}: {error}, as hf-hub:{repository}/FILE") from None
    if not chosen:
        shown = ", ".join(sorted(files)[:8]) or "nothing"
        raise InputError(f"{what}: {repository} does not hold what is wanted here; it holds {shown}")
    return chosen


def _explained(
    error: InputError, errors: Any, what: str, repository: str, revision: str | None, file: str | None
) -> InputError:
    """The same in words about the hub, where it has answered or must not be asked."""
    cause, address = error.__cause__, f"https://huggingface.co/{repository}"
    if isinstance(cause, errors.GatedRepoError):
        return InputError(f"{what} is gated: accept its terms at {address} and log in (hf auth login, or HF_TOKEN)")
    if isinstance(cause, errors.RepositoryNotFoundError):
        return InputError(
            f"{what} does not exist, neither as a path nor as a repository on the Hugging Face hub that can be read "
            "from here; check the name, or log in (hf auth login, or HF_TOKEN) if it is private"
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return InputError(f"{what}: {repository} has no revision {revision!r}; see {address}/tree/main")
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        return InputError(f"{what}: {repository} has no file {file!r}; see {address}/tree/{revision or 'main'}")
    if isinstance(cause, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        return InputError(
            f"{what} does not exist as a path, is not in the hub's cache and cannot be fetched: HF_HUB_OFFLINE is set, "
            "or the hub cannot be reached; go online once, or give a local path"
        )
    return error
