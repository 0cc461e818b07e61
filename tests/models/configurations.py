"""Model configurations of the tests: the tiny sizes, and any published size, with fields to replace."""

import dataclasses

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from clippy_jax.models import t5, vit
from tests.xla_flags import FULLY_OPTIMISED  # noqa: F401 (for the tests that compile a model as users do)


def image_tower(size: str = "Ti/16", **changes) -> ImageTowerConfig:
    """A DINO backbone by its name, for 224 pixels."""
    fields = dict(vit.SIZES[size], image_size=224, position_interpolation="dino", patch_dropout=0.0)
    return ImageTowerConfig(**fields | changes)


def text_tower(size: str = "tiny", **changes) -> TextTowerConfig:
    """A Sentence-T5 by its name, without dropout."""
    fields = dict(
        t5.SIZES[size],
        vocabulary_size=100 if size == "tiny" else 32128,
        gated_mlp=False,
        relative_buckets=32,
        relative_max_distance=128,
        dropout=0.0,
    )
    return TextTowerConfig(**fields | changes)


def model(image: ImageTowerConfig | None = None, text: TextTowerConfig | None = None, **changes) -> ModelConfig:
    """CLIPpy with public max pooling; both towers tiny unless given."""
    config = ModelConfig(
        image=image or image_tower(),
        text=text or text_tower(),
        pooling="max",
        image_projection=False,
        precision="float32",
        rematerialise=False,
    )
    return dataclasses.replace(config, **changes)
