"""CLIPpy B/16 as the paper describes it, where the public code, and so `configs/b16.py`, does something else.

    python -m clippy_jax.main --config=configs/paper.py --workdir=runs/paper \\
        --config.input.train='/data/cc12m/{00000..01242}.tar' --config.input.tokenizer=sentence-t5-base/ \\
        --config.init.image=dino_vitbase16_pretrain.pth --config.init.text=sentence-t5-base/

What the paper leaves open is as in `configs/b16.py`.
"""

import pathlib
import runpy

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every field of `clippy_jax.config.Config`."""
    config = runpy.run_path(str(pathlib.Path(__file__).with_name("b16.py")))["get_config"]()

    config.model.pooling = "max"  # section 3.2: over the spatial tokens, without the CLS token
    config.loss.reduction = "sum"  # section 3.1: of the two directions
    config.schedule.stop_step = 43_008  # `clippy_5k.pt` is a state of the warm-up; the paper's models are trained out

    return config
