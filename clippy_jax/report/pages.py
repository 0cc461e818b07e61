"""The report as Markdown with plots beside it, and as one HTML file that needs nothing else."""

import base64
import html
import re
from collections.abc import Sequence

from clippy_jax.evaluators.result import markdown, shown
from clippy_jax.report.sections import Section

TITLE = "CLIPpy: this checkpoint beside the published figures"
LEGEND = (
    "All figures in percent; in brackets the 95 % interval (bootstrap over images). An empty cell was not measured."
)
STYLE = """
:root { color-scheme: light dark; --line: #8886; --ours: #0072b218; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.ours { background: var(--ours); font-weight: 600; }
img { max-width: 100%; background: white; margin: 1rem 0; }
ul { padding-left: 1.2rem; } li, summary, .head { overflow-wrap: anywhere; }
.missing { border-left: 3px solid #e69f00; padding-left: .8rem; margin: .8rem 0; }
details { margin: .5rem 0; } code { font-size: .9em; }
"""


def as_markdown(head: Sequence[str], sections: Sequence[Section]) -> str:
    """The report as Markdown.

    Args:
      head: lines about the checkpoint.
      sections: the tables; their plots are named, not contained.
    """
    parts = [f"# {TITLE}", _bullets(head), LEGEND]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [markdown(section.header, section.rows)] if section.rows else []
        parts.extend(section.notes)
        if section.figure:
            parts.append(f"![{section.figure.says}]({section.figure.name})")
        parts += ["How ours were measured:", _bullets(section.measured)] if section.measured else []
        parts += ["Missing:", _bullets(section.missing)] if section.missing else []
    return "\n\n".join(parts) + "\n"


def as_html(head: Sequence[str], sections: Sequence[Section]) -> str:
    """The report as one page, its plots in it."""
    body = [f"<h1>{html.escape(TITLE)}</h1>", f'<div class="head">{_list(head)}</div>', f"<p>{html.escape(LEGEND)}</p>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        body += [_table(section)] if section.rows else []
        body += [f"<p>{_code(note)}</p>" for note in section.notes]
        if section.figure:
            png = base64.b64encode(section.figure.png).decode()
            body.append(f'<img alt="{html.escape(section.figure.says)}" src="data:image/png;base64,{png}">')
        if section.missing:
            body.append(f'<div class="missing">Missing:{_list(section.missing)}</div>')
        if section.measured:
            body.append(f"<details><summary>How ours were measured</summary>{_list(section.measured)}</details>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(TITLE)}</title>\n<style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_code(line)}</li>" for line in lines) + "</ul>"


def _code(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))


def _table(section: Section) -> str:
    header = "".join(f"<th>{html.escape(heading)}</th>" for heading in section.header)
    rows = []
    for row in section.rows:
        kind = ' class="ours"' if row[0] in section.ours else ""
        rows.append(f"<tr{kind}>" + "".join(f"<td>{html.escape(shown(cell))}</td>" for cell in row) + "</tr>")
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
