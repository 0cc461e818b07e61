import pytest

from tests.errors_document import ROOT, document, merged, parsed, rows_of, stable

ROWS = {
    "tests/test_errors.py": {("a bug: --x=a|b", "x.pt\\y is <no> file", "1"): None},
    "tests/test_fuzz.py": {("damaged input ends well: tar", "…/0.tar is no tar file", "–"): None},
    "tests/test_hub.py": {("a name that ends in \\", "a | b \\| c", "1"): None},
    "tests/test_gone.py": {("it was", "once", "1"): None},
}


def test_sections_of_tests_that_did_not_run_stay_and_those_of_files_that_have_gone_do_not():
    before = parsed(document(ROWS))
    new = {"tests/test_fuzz.py": {("damaged input ends well: table", "…/0.csv is no table", "–"): None}}
    after = merged(before, new)
    stay = {name: ROWS[name] for name in ("tests/test_errors.py", "tests/test_hub.py")}
    assert after == stay | new
    assert document(merged(parsed(document(after)), {})) == document(after)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("/tmp/pytest-of-me/pytest-7/test_x0/a.tar is damaged", "…/a.tar is damaged"),
        ("/tmp/pytest-of-me/pytest-7/popen-gw1/test_x0: no folder", "…: no folder"),
        (f"{ROOT}/configs/b16.py, line 3", "configs/b16.py, line 3"),
        ("came to localhost:40123 within 3 s", "came to localhost:PORT within 3 s"),
    ],
)
def test_a_line_is_the_same_on_every_machine(line, shown):
    assert stable(line) == shown


def test_the_document_is_of_tests_that_there_are():
    """`make errors` writes it; a test that was renamed or removed since is noticed here."""
    sections = parsed((ROOT / "docs" / "errors.md").read_text("utf-8"))
    assert len(sections) > 20
    for name, text in sections.items():
        source = (ROOT / name).read_text()
        for given, line, status in rows_of(text):
            assert f"def test_{given.partition(':')[0].replace(' ', '_')}(" in source, f"{name}: {given}"
            assert line and status in ("1", "–")
