"""CLIPpy in plain PyTorch, the peer of the benchmarks: the recipe's model, trained and run as PyTorch does it best.

Attention is `scaled_dot_product_attention`; query, key and value of an image are one product. The parameters have the
names of ours (`clippy_jax/models`), those of a block with its number. Needs nothing but torch.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from clippy_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


class TorchCLIPpy(nn.Module):
    """The same function as `clippy_jax.models.clippy.CLIPpy`, T5 dropout and patch dropout included.

    Raises:
      ValueError: the model is not of the recipe's kind, which pools with the CLS token, without a projection.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        if config.pooling != "max_with_cls" or config.image_projection or config.text.gated_mlp:
            raise ValueError("the peer pools by max_with_cls, without an image projection or gated MLPs")
        self.image = ImageTower(config.image, config.rematerialise)
        self.text = TextTower(config.text, config.rematerialise)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 images [B, H, W, 3], padded token ids [B, L] → unit embeddings [B, D] of both, log logit scale []."""
        return self.encode_image(images)[1], functional.normalize(self.text(tokens), dim=-1), self.logit_scale

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings of the patches [B, N, D], row by row, and of the images [B, D]."""
        tokens = self.image(images)
        return functional.normalize(tokens[:, 1:], dim=-1), functional.normalize(tokens.amax(dim=1), dim=-1)


class ImageTower(nn.Module):
    """DINO's ViT, for images of the size that its positions are for."""

    def __init__(self, config: ImageTowerConfig, rematerialise: bool):
        super().__init__()
        self.patch_size, self.patch_dropout, self.rematerialise = config.patch_size, config.patch_dropout, rematerialise
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        patches = (config.image_size // config.patch_size) ** 2
        self.position_embedding = nn.Parameter(torch.empty(1, 1 + patches, config.width))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, config.width)
        self.blocks = nn.ModuleList(ImageBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images [B, H, W, 3] → tokens [B, 1 + N, D], CLS first."""
        pixels = (images / 255 - self.mean) / self.std
        pixels = pixels.unflatten(2, (-1, self.patch_size)).unflatten(1, (-1, self.patch_size))
        tokens = self.patch_embedding(pixels.transpose(2, 3).flatten(3).flatten(1, 2))
        tokens = tokens + self.position_embedding[:, 1:]
        if self.training and self.patch_dropout > 0:
            kept = max(1, int(tokens.shape[1] * (1 - self.patch_dropout)))
            chosen = torch.rand(tokens.shape[:2], device=tokens.device).topk(kept, dim=1).indices
            tokens = tokens.take_along_dim(chosen.sort(dim=1).values[..., None], dim=1)
        cls = self.cls_token + self.position_embedding[:, :1]
        tokens = torch.cat([cls.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
        return self.norm(_through(self.blocks, tokens, rematerialise=self.rematerialise))


class ImageBlock(nn.Module):
    """Self-attention and MLP, each after a LayerNorm and around a residual connection."""

    def __init__(self, config: ImageTowerConfig):
        super().__init__()
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp_in = nn.Linear(config.width, config.mlp_width)
        self.mlp_out = nn.Linear(config.mlp_width, config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*qkv.unbind())
        tokens = tokens + self.projection(mixed.transpose(1, 2).flatten(2))
        return tokens + self.mlp_out(functional.gelu(self.mlp_in(self.norm2(tokens))))


class TextTower(nn.Module):
    """Sentence-T5."""

    def __init__(self, config: TextTowerConfig, rematerialise: bool):
        super().__init__()
        self.config, self.rematerialise = config, rematerialise
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.relative_position_bias = nn.Embedding(config.relative_buckets, config.heads)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.dense = nn.Linear(config.width, config.embedding_width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Padded token ids [T, L] → sentence embeddings [T, D]: mean over the words, dense."""
        config, is_word = self.config, tokens != 0
        buckets = _relative_buckets(
            tokens.shape[1], config.relative_buckets, config.relative_max_distance, tokens.device
        )
        bias = self.relative_position_bias(buckets).permute(2, 0, 1)
        bias = torch.where(is_word[:, None, None, :], bias, -math.inf)
        words = self.dropout(self.token_embedding(tokens))
        words = self.dropout(self.norm(_through(self.blocks, words, bias, rematerialise=self.rematerialise)))
        mean = (words * is_word[..., None]).sum(dim=1) / is_word.sum(dim=1, keepdim=True)
        return self.dense(mean)


class TextBlock(nn.Module):
    """Self-attention and MLP, each after an RMS norm and around a residual connection."""

    def __init__(self, config: TextTowerConfig):
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.head_width
        self.attention_norm = nn.RMSNorm(config.width, eps=1e-6)
        self.query, self.key, self.value = (nn.Linear(config.width, inner, bias=False) for _ in range(3))
        self.attention_out = nn.Linear(inner, config.width, bias=False)
        self.mlp_norm = nn.RMSNorm(config.width, eps=1e-6)
        self.mlp_in = nn.Linear(config.width, config.mlp_width, bias=False)
        self.mlp_out = nn.Linear(config.mlp_width, config.width, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.weights_dropout = config.dropout if config.attention_dropout < 0 else config.attention_dropout
        with torch.no_grad():  # T5 does not scale its logits: the initial queries are smaller instead
            self.query.weight.mul_(config.head_width**-0.5)

    def forward(self, words: Tensor, bias: Tensor) -> Tensor:
        normed = self.attention_norm(words)
        query, key, value = (
            layer(normed).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        rate = self.weights_dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), rate, scale=1.0)
        words = words + self.dropout(self.attention_out(mixed.transpose(1, 2).flatten(2)))
        hidden = self.dropout(functional.relu(self.mlp_in(self.mlp_norm(words))))
        return words + self.dropout(self.mlp_out(hidden))


def contrastive_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """The mean of both directions' cross entropies."""
    logits = logit_scale.exp() * image @ text.T
    labels = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2


def _through(blocks: nn.ModuleList, x: Tensor, *others: Tensor, rematerialise: bool) -> Tensor:
    """Through all blocks; rematerialised, each leaves its input alone for the backward pass."""
    for block in blocks:
        x = checkpoint(block, x, *others, use_reentrant=False) if rematerialise else block(x, *others)
    return x


def _relative_buckets(length: int, buckets: int, max_distance: int, device: torch.device) -> Tensor:
    """The bucket of each (query, key) pair, [L, L] (Raffel et al., 2020, section 2.1)."""
    place = torch.arange(length, device=device)
    distance = place[None, :] - place[:, None]
    size, half, exact = distance.abs(), buckets // 2, buckets // 4
    logarithm = torch.log(size.clamp(min=1) / exact) / math.log(max_distance / exact)
    wide = exact + (logarithm * (half - exact)).long()
    return torch.where(size < exact, size, wide.clamp(max=half - 1)) + half * (distance > 0)
