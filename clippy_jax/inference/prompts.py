"""Class embeddings from prompts: the text side of everything zero-shot."""

from collections.abc import Callable, Sequence

import numpy as np
import tqdm
from jaxtyping import Float

PROMPTS_PER_CALL = 256


def class_embeddings(
    encode_text: Callable[[Sequence[str]], Float[np.ndarray, "T D"]],
    prompts: Sequence[Sequence[str]],
    progress: bool = False,
) -> Float[np.ndarray, "C D"]:
    """One unit vector per class: the mean over its prompts' unit vectors, normalised again.

    Each distinct prompt is embedded once. Prompts of like length go together, so that a call pads little.

    Args:
      encode_text: embeds texts.
      prompts: the prompts of each class.
      progress: whether to show a bar.
    """
    distinct = sorted({prompt for of_class in prompts for prompt in of_class}, key=lambda text: (len(text), text))
    vectors = []
    with tqdm.tqdm(total=len(distinct), desc="prompts", unit="prompt", disable=not progress) as bar:
        for start in range(0, len(distinct), PROMPTS_PER_CALL):
            chunk = distinct[start : start + PROMPTS_PER_CALL]
            vectors.append(np.asarray(encode_text(chunk)))
            bar.update(len(chunk))
    vector_of = dict(zip(distinct, np.concatenate(vectors)))
    means = np.stack([np.mean([vector_of[prompt] for prompt in of_class], axis=0) for of_class in prompts])
    return means / np.linalg.norm(means, axis=-1, keepdims=True)
