"""A text tower for a frozen DINOv2: "locked-image tuning" (Zhai et al., LiT, 2022) with the embedding of dino.txt.

    python -m clippy_jax.main --config=configs/lit_dinov2.py --workdir=runs/lit_dinov2 \\
        --config.input.train='/data/cc12m/{00000..01242}.tar' --config.input.tokenizer=sentence-t5-base/ \\
        --config.init.image=dinov2_vitb14_reg4_pretrain.pth --config.init.text=sentence-t5-base/

Everything that is not here is as in `configs/b16.py`. `python -m clippy_jax.encode_images` computes the frozen tower's
side once, for trainings that then run at the speed of the text tower (`docs/towers.md`).
"""

import pathlib
import runpy

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every field of `clippy_jax.config.Config`."""
    config = runpy.run_path(str(pathlib.Path(__file__).with_name("b16.py")))["get_config"]()

    # DINOv2 ViT-B/14 with registers, at the 224 pixels of training images: 16 x 16 patches. Its positions were learned
    # for 518 pixels, and the table is kept as it is.
    config.model.image.patch_size = 14
    config.model.image.image_size = 518
    config.model.image.position_interpolation = "antialias"  # without registers: "dino", and registers = 0
    config.model.image.registers = 4
    config.model.image.layer_scale = True
    config.model.image.pixel_statistics = "imagenet"
    config.optimizer.freeze = ("image",)

    # dino.txt (Jose et al., 2025): the text matches the CLS token and the mean of the patches, one after the other, so
    # its embedding is twice as wide as a token, and its head is trained from random weights. The paper's pooling is
    # "max", with an embedding_width of 768: then Sentence-T5's head serves.
    config.model.pooling = "cls_and_avg"
    config.model.text.embedding_width = 2 * 768

    return config
