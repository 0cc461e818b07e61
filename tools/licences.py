"""Lists the licence of every package that requirements.txt brings, and fails on one that Apache-2.0 does not go with.

python tools/licences.py

It reads the metadata of what is installed here: the packages that requirements.txt names and, through them, all that
they need on this Python and system. A licence counts if it asks for nothing that a program under Apache-2.0 which uses
the package, unchanged, does not do anyway; what is not in the list below is not assumed to be one of these.
"""

import ast
import importlib.metadata
import pathlib
import re
import sys
from collections.abc import Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = pathlib.Path(__file__).parents[1] / "requirements.txt"

# SPDX identifiers. The MPL asks for the source of its own files, which the packages bring.
COMPATIBLE = {
    *("Apache-2.0", "MIT", "MIT-CMU", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "HPND", "Unlicense"),
    *("CC0-1.0", "PSF-2.0", "Python-2.0", "CNRI-Python", "MPL-2.0"),
}

# What the older fields of the metadata call them, by a pattern for the whole text or its first line.
OLD_NAMES = {
    r"apache( software)? ?(license)?(,? version)?( ?2\.0)?( license)?": "Apache-2.0",
    r"(the )?mit( license)?": "MIT",
    r"(3-clause )?bsd( license| 3-clause| 3-clause license)?": "BSD-3-Clause",
    r"isc license( \(iscl\))?": "ISC",
    r"mozilla public license 2\.0 \(mpl 2\.0\)": "MPL-2.0",
    r"python software foundation license|license agreement for matplotlib.*": "PSF-2.0",
}

# Packages whose metadata say nothing, and what the licence file that they bring says.
NOT_TOLD = {"namex": "Apache-2.0"}


def dependencies(requirements: pathlib.Path) -> list[str]:
    """The names of all packages that a requirements file brings here, however indirectly."""
    found: dict[str, set[str]] = {}  # the extras of each that are wanted

    def visit(requirement: Requirement, extras: Sequence[str]) -> None:
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            return
        name = canonicalize_name(requirement.name)
        if name in found and requirement.extras <= found[name]:
            return
        found.setdefault(name, set()).update(requirement.extras)
        try:
            needs = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            sys.exit(f"error: {name} is not installed; pip install -r requirements.txt")
        for needed in needs:
            visit(Requirement(needed), sorted(requirement.extras))

    for line in requirements.read_text().splitlines():
        if line := line.partition("#")[0].strip():
            visit(Requirement(line), ())
    return sorted(found)


def licence(name: str) -> str:
    """The SPDX expression of an installed package; "" where its metadata tell none."""
    told = importlib.metadata.metadata(name)
    if expression := told.get("License-Expression") or NOT_TOLD.get(name):
        return expression
    classified = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or () if c.startswith("License ::")]
    text = (told.get("License") or "").strip().partition("\n")[0].strip()
    # A package under several licences: all have to fit. The text counts where there is no class, or only the family's.
    names = [identifier for each in classified or [text] if (identifier := _identifier(each))]
    return " AND ".join(dict.fromkeys(names)) if len(names) == len(classified or [text]) else ""


def is_compatible(expression: str) -> bool:
    """Whether a package under an SPDX expression may be used."""
    words = re.sub(r"[A-Za-z0-9][\w.+-]*", lambda word: _as_python(word[0]), expression)
    try:
        return bool(expression) and _holds(ast.parse(words, mode="eval").body)
    except SyntaxError:
        return False


def main() -> int:
    """Prints the list; returns the exit status."""
    names = dependencies(REQUIREMENTS)
    licences = {name: licence(name) for name in names}
    for name, expression in licences.items():
        package = f"{name} {importlib.metadata.version(name)}"
        print(f"{package:40} {expression or 'not told'}{'' if is_compatible(expression) else '  NOT COMPATIBLE'}")
    bad = [name for name, expression in licences.items() if not is_compatible(expression)]
    print(
        f"{len(names)} packages; " + (f"not compatible with Apache-2.0: {', '.join(bad)}" if bad else "all compatible")
    )
    return 1 if bad else 0


def _identifier(text: str) -> str:
    """The SPDX identifier or expression that an old field means; "" if it is none that is known."""
    if is_compatible(text):
        return text
    return next((spdx for old, spdx in OLD_NAMES.items() if re.fullmatch(old, text.lower())), "")


def _as_python(word: str) -> str:
    return word.lower() if word in ("AND", "OR") else str(word in COMPATIBLE)


def _holds(node: ast.expr) -> bool:
    if isinstance(node, ast.BoolOp):
        return (all if isinstance(node.op, ast.And) else any)(_holds(value) for value in node.values)
    return isinstance(node, ast.Constant) and node.value is True


if __name__ == "__main__":
    sys.exit(main())
