"""What a promise of the soak is, and what came of trying it."""

import concurrent.futures
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from clippy_jax.evaluators.result import markdown

_SHOWN_FAULTS = 5


@dataclasses.dataclass(frozen=True)
class Promise:
    """Something that is to hold, and how it is tried.

    Attributes:
      text: the promise, in one line.
      compared: what is done, and what is looked at afterwards.
      tries: does it in a folder of its own; yields "" for each try in which the promise held, else what happened.
    """

    text: str
    compared: str
    tries: Callable[[pathlib.Path], Iterator[str]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a promise. `faults` are the first of those that there were."""

    part: str
    promise: str
    compared: str
    tried: int
    held: int
    seconds: float
    faults: list[str]

    @staticmethod
    def of(part: str, promise: Promise, results: list[str], seconds: float) -> "Outcome":
        """The outcome of all tries."""
        faults = [result for result in results if result]
        return Outcome(
            part,
            promise.text,
            promise.compared,
            len(results),
            len(results) - len(faults),
            round(seconds, 1),
            faults[:_SHOWN_FAULTS],
        )


def side_by_side(attempt: Callable[[Any], Any], cases: Iterable[Any], at_a_time: int = 2) -> Iterator[Any]:
    """What comes of each case, in their order; two are tried at a time, on as many cores, or more if they wait."""
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        yield from pool.map(attempt, cases)


def table(outcomes: list[Outcome]) -> str:
    """The one table, in Markdown, with the faults under it."""
    rows = [(each.promise, f"{each.tried:,}", f"{each.held:,}", f"{each.seconds:.0f}") for each in outcomes]
    lines = [markdown(("promise", "tried", "held", "seconds"), rows)]
    for outcome in outcomes:
        lines += [f"NOT HELD, {outcome.promise}: {fault}" for fault in outcome.faults]
    return "\n".join(lines)


def as_json(outcomes: list[Outcome], environment: dict[str, Any]) -> dict[str, Any]:
    """The same to be written."""
    return {"environment": environment, "promises": [dataclasses.asdict(outcome) for outcome in outcomes]}


def read_outcomes(path: pathlib.Path) -> dict[str, Outcome]:
    """What a file written before holds, by promise; nothing where there is none."""
    if not path.exists():
        return {}
    return {each["promise"]: Outcome(**each) for each in json.loads(path.read_text())["promises"]}
