"""Captions as the public training code cleans them."""

import html

import ftfy

from clippy_jax.datasets.sample import BadSample


def clean(caption: str) -> str:
    """Repairs a scraped caption: ftfy, HTML entities resolved twice, white space collapsed and stripped.

    Raises:
      BadSample: these libraries stumble over it.
    """
    if not (caption.isascii() and caption.isprintable() and "&" not in caption):  # else ftfy and html change nothing
        try:
            caption = html.unescape(html.unescape(ftfy.fix_text(caption)))
        except Exception as error:  # they raise what they like
            raise BadSample("captioned with what cannot be cleaned") from error
    return " ".join(caption.split())
