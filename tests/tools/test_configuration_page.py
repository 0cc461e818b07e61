import dataclasses

from tools import configuration_page


def test_the_page_is_of_this_version():
    """If not: python tools/configuration_page.py."""
    assert configuration_page.PAGE.read_text("utf-8") == configuration_page.page()


def test_comments_belong_to_their_fields(tmp_path, monkeypatch):
    source = """@dataclasses.dataclass
class Group:
    # Before it,
    # in two lines.
    first: int
    second: int  # beside it | and on
    third: int
"""
    (tmp_path / "group.py").write_text("import dataclasses\n\n\n" + source)
    monkeypatch.syspath_prepend(tmp_path)
    from group import Group

    assert dataclasses.is_dataclass(Group)
    assert configuration_page.comments(Group) == {
        "first": "Before it, in two lines.",
        "second": "beside it \\| and on",
        "third": "",
    }
