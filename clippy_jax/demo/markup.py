"""Figures and messages as HTML. What a visitor typed is escaped."""

import html
from collections.abc import Iterable, Mapping, Sequence

from clippy_jax.analysis.palette import Colour
from clippy_jax.analysis.segments import Segments

SHARE = '<span title="of the image\'s pixels">share</span>'
CONFIDENCE_HELP = "mean probability of the word, among those typed, over the pixels that it names"


def segments_table(segments: Segments, words: Sequence[str], colours: Mapping[int, Colour]) -> str:
    """A legend with the share and confidence of each word, the largest first; words that name no pixel come last."""
    order = sorted(range(len(words)), key=lambda index: -segments.shares[index])
    rows = []
    for index in order:
        share, confidence = segments.shares[index], segments.confidences[index]
        figures = (_bar(share), _percent(confidence)) if share else ('<span class="absent">not found</span>', "")
        rows.append((_swatch(colours.get(index)), html.escape(words[index]), *figures))
    return _table(("", "word", SHARE, f'<span title="{CONFIDENCE_HELP}">confidence</span>'), rows)


def groups_table(segments: Segments, colours: Mapping[int, Colour], words: Sequence[str] | None) -> str:
    """A legend with the share of each group and, where words are given, the one (by group) that names most of it."""
    rows = []
    for group, share in enumerate(segments.shares):
        like = [html.escape(words[group])] if words else []
        rows.append((_swatch(colours[group]), f"group {group + 1}", _bar(share), *like))
    return _table(("", "group", SHARE, *(["mostly"] if words else [])), rows)


def probabilities_table(words: Sequence[str], probabilities: Iterable[float], most: int | None = None) -> str:
    """Words with their probabilities, the likeliest first, at most so many."""
    ranked = sorted(zip(words, probabilities), key=lambda pair: -pair[1])[:most]
    return _table(("word", "probability"), [(html.escape(word), _bar(probability)) for word, probability in ranked])


def error(message: str) -> str:
    """A message that says what is wrong."""
    return f'<div class="problem" role="alert">{html.escape(message)}</div>'


def heading(text: str) -> str:
    """A heading over figures or an image."""
    return f'<h3 class="over">{html.escape(text)}</h3>'


def note(text: str) -> str:
    """A line that explains what is shown."""
    return f'<p class="note">{html.escape(text)}</p>'


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _swatch(colour: Colour | None) -> str:
    if colour is None:
        return '<span class="swatch untinted"></span>'
    return f'<span class="swatch" style="background:rgb{colour}"></span>'


def _bar(share: float) -> str:
    filled = f'<span class="bar"><span style="width:{100 * share:.1f}%"></span></span>'
    return f'<span class="measure">{filled}<span class="number">{_percent(share)}</span></span>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
