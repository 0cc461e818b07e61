"""What a run's folder carries beside its checkpoints: the configuration and the tokenizer.

    WORKDIR/config.json    the resolved configuration
    WORKDIR/tokenizer/     the tokenizer's files
    WORKDIR/hub.json       which commits of the Hugging Face hub the run was started with
    WORKDIR/checkpoints/   the train state (`checkpointing.py`)
    WORKDIR/compilation_cache/   compiled programs, which may be deleted (`compilation.py`): native code that the next
                           start runs, so only from a folder that nobody else can write to

so that whoever has the folder needs nothing else to use or to continue the run. Files appear under their names only
when they are complete. To use a run, only the parts of its configuration that are used have to be of this version.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from clippy_jax import hub
from clippy_jax.config import (
    Config,
    Count,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    check_image_size,
    parse,
    parse_model,
    values_by_name,
)
from clippy_jax.config_parser import parse_value
from clippy_jax.errors import InputError, reading
from clippy_jax.input_pipeline.tokenizer import MODEL_FILES, TOKENIZER_FILES, find_tokenizer
from clippy_jax.whole_files import complete_or_nothing, write_text

# How the model is computed, not what it is: these may change from one start of a run to the next.
_MODEL_FIELDS_FREE_TO_CHANGE = ("config.model.precision", "config.model.rematerialise")


def absolute_path(workdir: epath.PathLike) -> epath.Path:
    """A run's folder from the root on, which the address of a remote one is already."""
    path = epath.Path(workdir)
    return path if "://" in str(workdir) else path.absolute()


def prepare_workdir(workdir: epath.PathLike, config: Config) -> list[str]:
    """Fills the folder of a new run, or checks that `config` continues the run that is already in it.

    Every process calls it, before any long work; the first one writes.

    Returns:
      A line per field that differs from the run's last start, for the log. The new values are the ones saved.

    Raises:
      InputError: its run has another model or tokenizer.
    """
    folder = epath.Path(workdir)
    changes = _changes(folder, config) if (folder / "config.json").exists() else []
    tokenizer = _read_tokenizer_files(find_tokenizer(config.input.tokenizer))
    _check_same_tokenizer(folder, tokenizer, config)
    if jax.process_index() == 0:
        if not (folder / "tokenizer").exists():
            with complete_or_nothing(folder / "tokenizer", force=False) as temporary:
                epath.Path(temporary).mkdir()
                for name, content in tokenizer.items():
                    (epath.Path(temporary) / name).write_bytes(content)
        write_text(folder / "config.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
    return changes


def record_commits(workdir: epath.PathLike, config: Config) -> None:
    """Writes which commits of the hub a new run has taken its tokenizer and its weights from, once it has them.

    With these names in the configuration the same is taken again, whatever the hub has by then.
    """
    fields = {"config.input.tokenizer": config.input.tokenizer}
    fields |= {f"config.init.{name}": value for name, value in dataclasses.asdict(config.init).items()}
    commits = {field: hub.with_commit(name) for field, name in fields.items() if name}
    if jax.process_index() == 0 and any(commits.values()):
        found = {field: name for field, name in commits.items() if name}
        write_text(epath.Path(workdir) / "hub.json", json.dumps(found, indent=2) + "\n")


def config_overview(config: Config) -> str:
    """The resolved configuration, a line per field."""
    values = values_by_name(dataclasses.asdict(config))
    width = max(map(len, values))
    return "\n".join(f"{name:{width}}  {value!r}" for name, value in values.items())


def read_config(workdir: epath.PathLike) -> Config:
    """The whole configuration of the run in a folder.

    Raises:
      InputError: the folder has no configuration, or not one of this version's schema.
    """
    with _saved_values(workdir) as values:
        return parse(values)


def read_model(workdir: epath.PathLike) -> tuple[ModelConfig, int]:
    """The model of the run in a folder, and the pixels along each side of its training images.

    Raises:
      InputError: the folder has no configuration, or these are not of this version's schema.
    """
    with _saved_values(workdir) as values:
        model = parse_model(values.get("model"))
        image_size = parse_value(values.get("input"), _UsedInput, "config.input", ignore_unknown=True).image_size
        check_image_size(image_size, model.image, "config.input.image_size")
        return model, image_size


def read_optimizer(workdir: epath.PathLike) -> tuple[OptimizerConfig, ScheduleConfig]:
    """The optimizer of the run in a folder, and its learning rate.

    Raises:
      InputError: as `read_model`.
    """
    with _saved_values(workdir) as values:
        optimizer = parse_value(values.get("optimizer"), OptimizerConfig, "config.optimizer", ignore_unknown=True)
        return optimizer, parse_value(values.get("schedule"), ScheduleConfig, "config.schedule", ignore_unknown=True)


@dataclasses.dataclass(frozen=True)
class _UsedInput:
    """Of `InputConfig`, what whoever uses a run needs."""

    image_size: Count


@contextlib.contextmanager
def _saved_values(workdir: epath.PathLike) -> Iterator[dict[str, Any]]:
    """Yields the groups in a workdir's config.json, and names this file where something in them is wrong."""
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise InputError(f"{path} does not exist; {workdir} is not the workdir of a run")
    with reading(path):
        values = json.loads(path.read_text())
    try:
        yield parse_value(values, dict[str, object], "config")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _changes(folder: epath.Path, config: Config) -> list[str]:
    """Compares with the saved configuration, which may be of another version: either may have fields of its own."""

    def fields(values: dict[str, Any]) -> dict[str, Any]:
        evals = values.get("evals", {})
        tasks = {name: task for name, task in evals.get("tasks", {}).items() if task.get("path")}  # the others are off
        return values_by_name(values | {"evals": evals | {"tasks": tasks}})

    with _saved_values(folder) as values:
        saved = values | {"model": dataclasses.asdict(parse_model(values.get("model")))}
    before, now = fields(saved), fields(json.loads(json.dumps(dataclasses.asdict(config))))
    changes = []
    for name in now | before:
        if name not in before:
            changes.append(f"{name} is new: {now[name]!r}")
        elif name not in now:
            changes.append(f"{name} was {before[name]!r} and is gone")
        elif before[name] != now[name]:
            changes.append(f"{name} was {before[name]!r} and is now {now[name]!r}")
            if name.startswith("config.model.") and name not in _MODEL_FIELDS_FREE_TO_CHANGE:
                raise InputError(
                    f"--workdir={folder} holds a run with {name}={before[name]!r}, not {now[name]!r}; "
                    "use another --workdir or that run's model"
                )
    return changes


def _read_tokenizer_files(folder: epath.PathLike) -> dict[str, bytes]:
    paths = [epath.Path(folder) / name for name in TOKENIZER_FILES]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def _check_same_tokenizer(folder: epath.Path, tokenizer: dict[str, bytes], config: Config) -> None:
    saved = folder / "tokenizer"

    def models(files):  # what the ids follow from
        return {name: content for name, content in files.items() if name in MODEL_FILES}

    if saved.exists() and models(_read_tokenizer_files(saved)) != models(tokenizer):
        raise InputError(
            f"config.input.tokenizer: {config.input.tokenizer} differs from {saved}, which this run was started with; "
            "use another --workdir or that tokenizer"
        )
