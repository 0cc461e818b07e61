"""Sentence-T5 as a sentence-transformers folder: the layouts of version 2.2 and of today.

`modules.json` lists the steps (a T5 encoder, mean pooling, a linear map, normalisation) and the folder of each.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clippy_jax.config import TextTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline.tokenizer import copy_tokenizer
from clippy_jax.weights.rules import to_torch
from clippy_jax.weights.safetensors_file import read_safetensors, write_safetensors
from clippy_jax.weights.sizes import is_gated, text_sizes
from clippy_jax.weights.state_dict import StateDict
from clippy_jax.weights.tables import DENSE_RULES, t5_rules, text_rules
from clippy_jax.weights.torch_file import read_torch_file

_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")


def read_sentence_t5(folder: str) -> StateDict:
    """The text tower in a sentence-transformers folder.

    Raises:
      InputError: the folder is not one of a Sentence-T5, or a file of it cannot be read.
    """
    modules = _read_modules(folder)
    if not set(_MODULES[:3]) <= set(modules) <= set(_MODULES):
        raise InputError(f"{folder} is made of {', '.join(modules)}; a Sentence-T5 is made of {', '.join(_MODULES)}")
    paths = {name: os.path.join(folder, path) for name, path in modules.items()}
    _check_head(paths["Pooling"], paths["Dense"])
    _check_text(paths["Transformer"])
    config = _read_json(paths["Transformer"], "config.json")
    tensors = {**_read_weights(paths["Transformer"]), **_read_weights(paths["Dense"])}
    return StateDict(
        source=folder,
        kind="Sentence-T5 folder",
        tensors=tensors,
        rules=text_rules(is_gated(tensors)),
        config=_with_settings(text_sizes(tensors, folder), config, folder),
    )


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
    t5 = to_torch({name: value for name, value in params.items() if name != "dense"}, t5_rules(config.gated_mlp))
    t5.pop("encoder.embed_tokens.weight")  # a shared tensor is stored once here
    write_safetensors(str(root / "model.safetensors"), t5, {"format": "pt"})
    dense = to_torch({"dense": params["dense"]}, DENSE_RULES)
    write_safetensors(str(root / "2_Dense" / "model.safetensors"), dense, {"format": "pt"})


def _read_modules(folder: str) -> dict[str, str]:
    """The kind of each module and the folder it is in."""
    modules = _read_json(folder, "modules.json", list)
    try:
        return {module["type"].rpartition(".")[2]: str(module["path"]) for module in modules}
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{folder}/modules.json has a module without type or path; get it again") from None


def _read_json(folder: str, name: str, kind: type = dict) -> Any:
    path = os.path.join(folder, name)
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the folder of a Sentence-T5") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); get it again") from None
    if not isinstance(values, kind):
        raise InputError(f"{path} holds a {type(values).__name__}, not a {kind.__name__}; get it again")
    return values


def _read_weights(folder: str) -> dict[str, np.ndarray]:
    """The tensors of a folder, in either format, in one file or in several with an index."""
    for name, read in (
        ("model.safetensors", lambda path: read_safetensors(path)[0]),
        ("pytorch_model.bin", read_torch_file),
    ):
        files = [name]
        if os.path.exists(os.path.join(folder, f"{name}.index.json")):
            places = _read_json(folder, f"{name}.index.json").get("weight_map")
            if not isinstance(places, dict):
                raise InputError(f"{folder}/{name}.index.json has no weight_map; get it again")
            files = sorted({str(file) for file in places.values()})
        elif not os.path.exists(os.path.join(folder, name)):
            continue
        return {key: value for file in files for key, value in read(os.path.join(folder, file)).items()}
    raise InputError(f"{folder} has neither model.safetensors nor pytorch_model.bin; copy the folder again")


def _check_head(pooling: str, dense: str) -> None:
    settings = _read_json(pooling, "config.json")
    modes = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True]
    if settings.get("pooling_mode", "mean") != "mean" or modes not in ([], ["pooling_mode_mean_tokens"]):
        raise InputError(f"{pooling}/config.json asks for another pooling than the mean that a Sentence-T5 has")
    settings = _read_json(dense, "config.json")
    if settings.get("bias") or not str(settings.get("activation_function")).endswith("Identity"):
        raise InputError(f"{dense}/config.json asks for a bias or an activation, which a Sentence-T5 does not have")


def _check_text(transformer: str) -> None:
    if not os.path.exists(os.path.join(transformer, "sentence_bert_config.json")):
        return
    if _read_json(transformer, "sentence_bert_config.json").get("do_lower_case"):
        raise InputError(
            f"{transformer}/sentence_bert_config.json asks for lower-cased texts, which a Sentence-T5 does not have"
        )


def _with_settings(sizes: TextTowerConfig, config: Mapping[str, Any], folder: str) -> TextTowerConfig:
    """Adds what `config.json` knows beyond the sizes, and checks that the model is one we compute."""
    activation = config.get("feed_forward_proj", "relu")
    if activation != ("gated-gelu" if sizes.gated_mlp else "relu"):
        raise InputError(f"{folder}/config.json: feed_forward_proj {activation!r} is neither T5's relu nor gated-gelu")
    if config.get("layer_norm_epsilon", 1e-6) != 1e-6:
        raise InputError(f"{folder}/config.json: layer_norm_epsilon is {config['layer_norm_epsilon']}, not T5's 1e-6")
    try:
        return dataclasses.replace(
            sizes,
            relative_max_distance=int(config.get("relative_attention_max_distance", 128)),
            dropout=float(config.get("dropout_rate", 0.1)),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}/config.json has a wrong value ({error}); get it again") from None


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
