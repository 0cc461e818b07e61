"""Sentence-T5 as a sentence-transformers folder: the layouts of version 2.2 and of today.

`modules.json` lists the steps (a T5 encoder, mean pooling, a linear map, normalisation) and the folder of each.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clippy_jax.config import TextTowerConfig
from clippy_jax.errors import InputError, reading
from clippy_jax.input_pipeline.tokenizer import copy_tokenizer
from clippy_jax.weights.rules import to_torch
from clippy_jax.weights.safetensors_file import write_safetensors
from clippy_jax.weights.state_dict import read_json, read_tensors
from clippy_jax.weights.torch_names import is_gated, text_rules

_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
_OF_DECODER = ("decoder.block.", "decoder.final_layer_norm.", "decoder.embed_tokens.", "lm_head.")


def read_sentence_t5(folder: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of the text tower in a sentence-transformers folder, and the fields of a `TextTowerConfig` that they
    do not tell.

    Raises:
      InputError: the folder is not one of a Sentence-T5, or a file of it cannot be read.
    """
    modules = _read_modules(folder)
    if not set(_MODULES[:3]) <= set(modules) <= set(_MODULES):
        raise InputError(f"{folder} is made of {', '.join(modules)}; a Sentence-T5 is made of {', '.join(_MODULES)}")
    paths = {name: os.path.join(folder, path) for name, path in modules.items()}
    tensors = {**read_tensors(paths["Transformer"]), **read_tensors(paths["Dense"])}
    # Of a whole T5 the encoder is taken, as sentence-transformers does.
    tensors = {key: value for key, value in tensors.items() if not key.startswith(_OF_DECODER)}
    return tensors, _read_settings(paths, is_gated(tensors))


def write_sentence_t5(folder: str, params: Mapping[str, Any], config: TextTowerConfig, tokenizer: str) -> None:
    """Writes a text tower's parameters as today's sentence-transformers does, in a layout that 2.2 reads as well.

    Args:
      folder: is made.
      params: the text tower's tree.
      config: its sizes.
      tokenizer: the folder whose tokenizer files are copied.

    Raises:
      OSError: the folder cannot be written.
    """
    root = Path(folder)
    (root / "1_Pooling").mkdir(parents=True)
    (root / "2_Dense").mkdir()
    (root / "3_Normalize").mkdir()
    copy_tokenizer(tokenizer, folder)
    for name, values in _settings(config).items():
        (root / name).write_text(json.dumps(values, indent=2) + "\n")
    if not (root / "sentence_bert_config.json").exists():
        (root / "sentence_bert_config.json").write_text('{\n  "max_seq_length": 256,\n  "do_lower_case": false\n}\n')
    tensors = to_torch(params, text_rules(config.gated_mlp))
    tensors.pop("encoder.embed_tokens.weight")  # a shared tensor is stored once here
    dense = {"linear.weight": tensors.pop("linear.weight")}
    write_safetensors(str(root / "model.safetensors"), tensors, {"format": "pt"})
    write_safetensors(str(root / "2_Dense" / "model.safetensors"), dense, {"format": "pt"})


def _read_modules(folder: str) -> dict[str, str]:
    """The kind of each module and the folder it is in."""
    modules = read_json(os.path.join(folder, "modules.json"), list)
    with reading(f"{folder}/modules.json", "get it again", "has a module without type or path"):
        paths = {module["type"].rpartition(".")[2]: str(module["path"]) for module in modules}
    if any(os.path.isabs(path) or os.pardir in Path(path).parts for path in paths.values()):
        raise InputError(f"{folder}/modules.json names folders outside of it; get it again, from a source you trust")
    return paths


def _read_settings(paths: Mapping[str, str], gated: bool) -> dict[str, Any]:
    """What the JSON files know beyond the sizes, checked to be of a model that we compute."""
    transformer, pooling, dense = (f"{paths[name]}/config.json" for name in _MODULES[:3])
    text = f"{paths['Transformer']}/sentence_bert_config.json"
    config, pool, head = read_json(transformer), read_json(pooling), read_json(dense)
    modes = [name for name, on in pool.items() if name.startswith("pooling_mode_") and on is True]
    activation = config.get("feed_forward_proj", "relu")
    for path, wrong, what in (
        (transformer, activation != ("gated-gelu" if gated else "relu"), f"has feed_forward_proj {activation!r}"),
        (transformer, config.get("layer_norm_epsilon", 1e-6) != 1e-6, "has a layer_norm_epsilon other than 1e-6"),
        (text, os.path.exists(text) and read_json(text).get("do_lower_case"), "asks for lower-cased texts"),
        (pooling, pool.get("pooling_mode", "mean") != "mean", "asks for another pooling than the mean"),
        (pooling, modes not in ([], ["pooling_mode_mean_tokens"]), "asks for another pooling than the mean"),
        (dense, head.get("bias"), "asks for a bias"),
        (dense, not str(head.get("activation_function")).endswith("Identity"), "asks for an activation"),
    ):
        if wrong:
            raise InputError(f"{path} {what}, which a Sentence-T5 does not have; give the folder of one")
    with reading(transformer, "get it again", "has a wrong value"):
        return {
            "relative_max_distance": int(config.get("relative_attention_max_distance", 128)),
            "dropout": float(config.get("dropout_rate", 0.1)),
        }


def _settings(config: TextTowerConfig) -> dict[str, Any]:
    """The JSON files of a folder. The module types are the names that every version of the library knows."""
    return {
        "modules.json": [
            {
                "idx": i,
                "name": str(i),
                "path": f"{i}_{name}" if i else "",
                "type": f"sentence_transformers.models.{name}",
            }
            for i, name in enumerate(_MODULES)
        ],
        "config.json": {
            "architectures": ["T5EncoderModel"],
            "model_type": "t5",
            "d_model": config.width,
            "d_kv": config.head_width,
            "d_ff": config.mlp_width,
            "num_layers": config.depth,
            "num_decoder_layers": config.depth,
            "num_heads": config.heads,
            "vocab_size": config.vocabulary_size,
            "feed_forward_proj": "gated-gelu" if config.gated_mlp else "relu",
            "relative_attention_num_buckets": config.relative_buckets,
            "relative_attention_max_distance": config.relative_max_distance,
            "dropout_rate": config.dropout,
            "layer_norm_epsilon": 1e-6,
            "is_encoder_decoder": False,
            "use_cache": False,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": "float32",
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "2_Dense/config.json": {
            "in_features": config.width,
            "out_features": config.embedding_width,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    }
