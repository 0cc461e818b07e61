"""CLIPpy in eager PyTorch from the parts of `transformers`: the reference of the models' tests."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import T5Config, T5EncoderModel, ViTConfig, ViTModel

from clippy_jax.config import ModelConfig

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


class TransformersCLIPpy(nn.Module):
    """The same function as `clippy_jax.models.clippy.CLIPpy`, without patch dropout."""

    def __init__(self, config: ModelConfig, attention: str = "sdpa"):
        """`attention` is one of `transformers`' implementations: "sdpa" or "eager"."""
        super().__init__()
        self.config = config
        image, text = config.image, config.text
        self.visual = ViTModel(
            ViTConfig(
                hidden_size=image.width,
                num_hidden_layers=image.depth,
                num_attention_heads=image.heads,
                intermediate_size=image.mlp_width,
                hidden_act="gelu",
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                layer_norm_eps=1e-6,
                image_size=image.image_size,
                patch_size=image.patch_size,
                qkv_bias=True,
                attn_implementation=attention,
            ),
            add_pooling_layer=False,
        )
        self.text = T5EncoderModel(
            T5Config(
                vocab_size=text.vocabulary_size,
                d_model=text.width,
                d_kv=text.head_width,
                d_ff=text.mlp_width,
                num_layers=text.depth,
                num_heads=text.heads,
                relative_attention_num_buckets=text.relative_buckets,
                relative_attention_max_distance=text.relative_max_distance,
                dropout_rate=text.dropout,
                feed_forward_proj="gated-gelu" if text.gated_mlp else "relu",
                layer_norm_epsilon=1e-6,
                attn_implementation=attention,
            )
        )
        self.dense = nn.Linear(text.width, text.embedding_width, bias=False)
        self.image_projection = (
            nn.Linear(image.width, config.token_width, bias=False) if config.image_projection else nn.Identity()
        )
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 images [B, H, W, 3], padded token ids [B, L] → unit embeddings [B, D] of both, log logit scale []."""
        return self.encode_image(images)[1], self.encode_text(tokens), self.logit_scale

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Unit patch embeddings [B, h, w, D] and unit image embeddings [B, D]."""
        tokens = self.image_projection(self.image_tokens(images))
        cls, patches = tokens[:, 0], tokens[:, 1:]
        grid = [side // self.config.image.patch_size for side in images.shape[1:3]]
        pooled = {
            "max": lambda: patches.amax(dim=1),
            "max_with_cls": lambda: tokens.amax(dim=1),
            "avg": lambda: patches.mean(dim=1),
            "cls": lambda: cls,
            "cls_and_avg": lambda: torch.cat([cls, patches.mean(dim=1)], dim=-1),
        }[self.config.pooling]()
        if self.config.pooling == "cls_and_avg":  # a patch is compared with the second half of a text
            patches = functional.pad(patches, (patches.shape[-1], 0))
        return functional.normalize(patches.unflatten(1, grid), dim=-1), functional.normalize(pooled, dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit sentence embeddings [T, D]: mean over the words, dense, normalise."""
        mask = (tokens != 0).long()
        words = self.text(input_ids=tokens, attention_mask=mask).last_hidden_state
        mean = (words * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return functional.normalize(self.dense(mean), dim=-1)

    def image_tokens(self, images: Tensor) -> Tensor:
        """The tower's tokens [B, 1 + N, width] after the last norm, CLS first."""
        embeddings = self.visual.embeddings
        mean, std = (embeddings.cls_token.new_tensor(values) for values in (IMAGE_MEAN, IMAGE_STD))
        pixels = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
        patches = embeddings.patch_embeddings(pixels)
        grid = [side // self.config.image.patch_size for side in pixels.shape[2:]]
        tokens = torch.cat([embeddings.cls_token.expand(len(pixels), -1, -1), patches], dim=1)
        tokens = tokens + interpolated_positions(
            embeddings.position_embeddings, grid, self.config.image.position_interpolation
        )
        for layer in self.visual.layers:
            tokens = layer(tokens, None)
        return self.visual.layernorm(tokens)


def interpolated_positions(table: Tensor, grid: list[int], interpolation: str) -> Tensor:
    """A position embedding [1, 1 + n * n, D] at another grid, by PyTorch's own bicubic interpolation.

    "dino" hands over DINO's scale factor, (grid + 0.1) / n, which PyTorch then uses for its sampling positions;
    "antialias" is PyTorch's option of that name.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if list(grid) == [side, side]:
        return table
    patches = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    how = {
        "dino": {"scale_factor": tuple((size + 0.1) / side for size in grid)},
        "plain": {"size": tuple(grid)},
        "antialias": {"size": tuple(grid), "antialias": True},
    }[interpolation]
    patches = functional.interpolate(patches, mode="bicubic", align_corners=False, **how)
    assert list(patches.shape[2:]) == list(grid)
    return torch.cat([table[:, :1], patches.flatten(2).transpose(1, 2)], dim=1)
