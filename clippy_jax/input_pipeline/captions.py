"""Captions as the public training code cleans them."""

import html

import ftfy


def clean(caption: str) -> str:
    """Repairs a scraped caption: ftfy, HTML entities resolved twice, white space collapsed and stripped."""
    if not (caption.isascii() and caption.isprintable() and "&" not in caption):  # else ftfy and html change nothing
        caption = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return " ".join(caption.split())
