"""Class embeddings from prompts: the text side of every zero-shot evaluation."""

from collections.abc import Sequence

import numpy as np
import tqdm
from jaxtyping import Float

from clippy_jax.inference.encoder import Encoder

PROMPTS_PER_CALL = 256


def class_embeddings(model: Encoder, prompts: Sequence[Sequence[str]], progress: bool) -> Float[np.ndarray, "C D"]:
    """One unit vector per class: the mean over its prompts' unit vectors, normalised again.

    Each distinct prompt is embedded once. Prompts of like length go together, so that a call pads little. Where the
    model has a cache, classes that are in it are not embedded again.

    Args:
      model: embeds the prompts.
      prompts: the prompts of each class.
      progress: whether to show a bar.
    """
    cache = model.class_embedding_cache
    cached = None if cache is None else cache.read(prompts)
    if cached is not None:
        return cached
    distinct = sorted({prompt for of_class in prompts for prompt in of_class}, key=lambda text: (len(text), text))
    vectors = []
    with tqdm.tqdm(total=len(distinct), desc="prompts", unit="prompt", disable=not progress) as bar:
        for start in range(0, len(distinct), PROMPTS_PER_CALL):
            chunk = distinct[start : start + PROMPTS_PER_CALL]
            vectors.append(np.asarray(model.encode_text(chunk)))
            bar.update(len(chunk))
    vector_of = dict(zip(distinct, np.concatenate(vectors)))
    means = np.stack([np.mean([vector_of[prompt] for prompt in of_class], axis=0) for of_class in prompts])
    classes = means / np.linalg.norm(means, axis=-1, keepdims=True)
    if cache is not None:
        cache.write(prompts, classes)
    return classes
