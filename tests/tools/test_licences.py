"""Licences of the dependencies: read from metadata of every age, and judged."""

import importlib

import pytest

from tools import licences


def test_all_that_the_requirements_bring_is_compatible(capsys):
    assert licences.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("all compatible") and len(lines) > 100
    assert any(line.startswith("orjson ") for line in lines)  # which only Gradio needs


@pytest.mark.parametrize(
    "fields, expression, compatible",
    [
        ("License-Expression: MIT OR GPL-3.0-only", "MIT OR GPL-3.0-only", True),
        ("License-Expression: MIT AND (GPL-3.0-only OR Apache-2.0)", "MIT AND (GPL-3.0-only OR Apache-2.0)", True),
        ("License-Expression: MIT AND GPL-3.0-only", "MIT AND GPL-3.0-only", False),
        ("License-Expression: Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception", False),
        ("License: Apache License 2.0", "Apache-2.0", True),
        ("License: BSD 3-Clause License", "BSD-3-Clause", True),
        ("License: GPLv3", "", False),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT", True),
        (
            "License: MIT\nClassifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            "",
            False,
        ),
        (
            "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Other/Proprietary License",
            "",
            False,
        ),
        ("Summary: says nothing", "", False),
    ],
)
def test_what_the_metadata_tell(monkeypatch, tmp_path, fields, expression, compatible):
    folder = tmp_path / "thing-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: thing\nVersion: 1.0\n{fields}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert licences.licence("thing") == expression
    assert licences.is_compatible(expression) == compatible


def test_one_that_is_not_compatible_fails(monkeypatch, capsys):
    monkeypatch.setattr(licences, "COMPATIBLE", licences.COMPATIBLE - {"MPL-2.0"})
    assert licences.main() == 1
    output = capsys.readouterr().out
    assert "MPL-2.0 AND (Apache-2.0 OR MIT)  NOT COMPATIBLE" in output
    assert "not compatible with Apache-2.0: certifi, orjson, tqdm\n" in output
