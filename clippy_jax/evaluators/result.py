"""What every evaluation's result carries beside its figures, so that a number can be quoted."""

import abc
import dataclasses


@dataclasses.dataclass(frozen=True)
class Result(abc.ABC):
    """How a number was measured."""

    task: str
    folder: str
    protocol: str
    split: str
    resolution: str
    prompt_set: str
    pooling: str
    images: int  # that were counted
    unreadable: tuple[str, ...]  # images that could not be read, and so were not counted
    seconds: float  # from reading the tree to the figures, prompts and compilation included

    @abc.abstractmethod
    def figures(self) -> dict[str, float]:
        """The headline figures by name, for a log; shares between 0 and 1."""
