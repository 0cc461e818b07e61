"""What a run's folder carries beside its checkpoints: the configuration and the tokenizer.

    WORKDIR/config.json    the resolved configuration
    WORKDIR/tokenizer/     the tokenizer's files
    WORKDIR/checkpoints/   the train state (`checkpointing.py`)
    WORKDIR/compilation_cache/   compiled programs, which may be deleted (`compilation.py`)

so that whoever has the folder needs nothing else to use or to continue the run. Files appear under their names only
when they are complete.
"""

import dataclasses
import json

import jax
from etils import epath

from clippy_jax.config import Config, parse
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import MODEL_FILES, TOKENIZER_FILES, find_tokenizer
from clippy_jax.run.overview import config_fields

# How the model is computed, not what it is: these may change from one start of a run to the next.
_MODEL_FIELDS_FREE_TO_CHANGE = ("config.model.precision", "config.model.rematerialise")


def prepare_workdir(workdir: epath.PathLike, config: Config) -> list[str]:
    """Makes the folder of a new run, or checks that `config` continues the run that is already in it.

    Every process calls it, before any long work; the first one writes.

    Returns:
      A line per field that differs from the run's last start, for the log. The new values are the ones saved.

    Raises:
      InputError: the folder cannot be written, or its run has another model or tokenizer.
    """
    folder = epath.Path(workdir)
    _check_writable(folder)
    changes = []
    if (folder / "config.json").exists():
        changes = _changes(folder, read_config(folder), config)
    tokenizer = _read_tokenizer_files(find_tokenizer(config.input.tokenizer)) if config.input.tokenizer else {}
    _check_same_tokenizer(folder, tokenizer, config)
    if jax.process_index() == 0:
        if tokenizer and not (folder / "tokenizer").exists():
            _write_folder(folder / "tokenizer", tokenizer)
        _write_file(folder / "config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
    return changes


def read_config(workdir: epath.PathLike) -> Config:
    """The configuration of the run in a folder.

    Raises:
      InputError: the folder has no configuration, or not one of this version's schema.
    """
    path = epath.Path(workdir) / "config.json"
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {workdir} is not the workdir of a run") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    try:
        return parse(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def tokenizer_folder(workdir: epath.PathLike) -> epath.Path:
    """The folder with the run's tokenizer files.

    Raises:
      InputError: the workdir carries no tokenizer.
    """
    folder = epath.Path(workdir) / "tokenizer"
    if not folder.exists():
        raise InputError(f"{folder} does not exist; {workdir} carries no tokenizer")
    return folder


def _check_writable(folder: epath.Path) -> None:
    probe = folder / f".writable.{jax.process_index()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InputError(f"--workdir={folder} cannot be written: {error.strerror or error}") from None


def _changes(folder: epath.Path, saved: Config, config: Config) -> list[str]:
    before, now = config_fields(saved), config_fields(config)
    changed = [name for name in now if now[name] != before[name]]
    for name in changed:
        if name.startswith("config.model.") and name not in _MODEL_FIELDS_FREE_TO_CHANGE:
            raise InputError(
                f"--workdir={folder} holds a run with {name}={before[name]!r}, not {now[name]!r}; "
                "use another --workdir or that run's model"
            )
    return [f"{name} was {before[name]!r} and is now {now[name]!r}" for name in changed]


def _read_tokenizer_files(folder: epath.PathLike) -> dict[str, bytes]:
    paths = [epath.Path(folder) / name for name in TOKENIZER_FILES]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def _check_same_tokenizer(folder: epath.Path, tokenizer: dict[str, bytes], config: Config) -> None:
    saved = folder / "tokenizer"

    def models(files):  # what the ids follow from
        return {name: content for name, content in files.items() if name in MODEL_FILES}

    if tokenizer and saved.exists() and models(_read_tokenizer_files(saved)) != models(tokenizer):
        raise InputError(
            f"config.input.tokenizer: {config.input.tokenizer} differs from {saved}, which this run was started with; "
            "use another --workdir or that tokenizer"
        )


def _write_file(path: epath.Path, text: str) -> None:
    temporary = path.parent / f"{path.name}.tmp"
    temporary.write_text(text)
    temporary.replace(path)


def _write_folder(path: epath.Path, files: dict[str, bytes]) -> None:
    temporary = path.parent / f"{path.name}.tmp"
    if temporary.exists():
        temporary.rmtree()
    temporary.mkdir()
    for name, content in files.items():
        (temporary / name).write_bytes(content)
    temporary.rename(path)
