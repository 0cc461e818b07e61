import html

import ftfy
import pytest

from clippy_jax.input_pipeline.captions import clean


@pytest.mark.parametrize(
    "caption, cleaned",
    [
        ("a photo of a cat", "a photo of a cat"),
        ("  two\twords\n here\u3000 ", "two words here"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("&lt;b&gt;bold&lt;/b&gt;", "<b>bold</b>"),
        ("schÃ¶n", "schön"),
        ("it’s “curly”", 'it\'s "curly"'),
        ("", ""),
        ("a\x00b\x1b[31mc", "abc"),
        ("ﬁne", "fine"),
    ],
)
def test_cleaning(caption, cleaned):
    assert clean(caption) == cleaned


def test_plain_captions_need_no_ftfy():
    """The shortcut for printable ASCII without "&" leaves out steps that change nothing."""
    for code in range(0x20, 0x7F):
        caption = f"a {chr(code)}{chr(code)} b{chr(code)}  c;"
        full = " ".join(html.unescape(html.unescape(ftfy.fix_text(caption))).split())
        assert clean(caption) == full
