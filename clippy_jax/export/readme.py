"""What every exported folder says of its embeddings."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_EMBEDDINGS = """\
All embeddings are float32 and L2-normalised, so that a dot product is a cosine similarity; times {scale:.6g} (the
exponential of the logit scale), similarities are the logits of a softmax over classes. Images go in as pixels of 0 to
255, without normalisation. Token ids are the checkpoint's tokenizer's (in `tokenizer/` where it carried one, else
Sentence-T5's): a text ends in 1, also where it is cut, and is filled up with 0; the padding changes nothing.
"""


def describe_embeddings(params: Mapping[str, Any]) -> str:
    """A paragraph of a README.

    Args:
      params: the parameters of `CLIPpy`.
    """
    return _EMBEDDINGS.format(scale=float(np.exp(params["logit_scale"])))
