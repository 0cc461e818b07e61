"""Segmentation as the published programs do it, re-derived with PyTorch, window by window and at full size."""

import numpy as np
import PIL.Image
import torch
from torch.nn import functional

from clippy_jax.models.clippy import IMAGE_MEAN, IMAGE_STD
from tests.evaluators.fake_model import PATCH


def resize(image: PIL.Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Bilinear without antialiasing, to 8 bits."""
    pixels = torch.tensor(np.asarray(image.convert("RGB"))).permute(2, 0, 1)[None].double()
    resized = functional.interpolate(pixels, size[::-1], mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def fed(image: PIL.Image.Image, protocol) -> np.ndarray:
    width, height = image.size
    factor = protocol.size / min(width, height)
    if protocol.longest:
        factor = min(factor, protocol.longest / max(width, height))
    size = int(width * factor + 0.5), int(height * factor + 0.5)
    return resize(image, size) if protocol.filter == "bilinear" else np.asarray(image.resize(size, PIL.Image.BICUBIC))


def window_logits(model, crop: np.ndarray, names: np.ndarray, protocol) -> torch.Tensor:
    """[P, h, w] at the window's own size."""
    height, width, _ = crop.shape
    left = top = 0
    if protocol.pad_windows:
        missing = [-length % PATCH for length in (height, width)]
        top, left = (count // 2 for count in missing)
        mean = np.round(255 * np.array(IMAGE_MEAN)).astype(np.uint8)
        padded = np.tile(mean, (height + missing[0], width + missing[1], 1))
        padded[top : top + height, left : left + width] = crop
        crop = padded
    seen = crop[: crop.shape[0] // PATCH * PATCH, : crop.shape[1] // PATCH * PATCH]  # what a strided convolution sees
    patches = np.asarray(model.encode_image(seen[None])[0][0]).astype(np.float64)
    logits = torch.tensor(patches @ names.T).permute(2, 0, 1)[None]
    logits = functional.interpolate(logits, crop.shape[:2], mode=protocol.stretch, align_corners=False)[0]
    logits = logits[:, top : top + height, left : left + width]
    return torch.softmax(protocol.scale * logits, dim=0) if protocol.average_probabilities else logits


def slide(model, pixels: np.ndarray, names: np.ndarray, protocol) -> torch.Tensor:
    height, width, _ = pixels.shape
    if not protocol.window:
        return window_logits(model, pixels, names, protocol)
    crop, stride = protocol.window, protocol.stride
    total, over = torch.zeros(len(names), height, width).double(), torch.zeros(height, width)
    for row in range(max(height - crop + stride - 1, 0) // stride + 1):
        for column in range(max(width - crop + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            place = np.s_[max(bottom - crop, 0) : bottom, max(right - crop, 0) : right]
            total[(slice(None), *place)] += window_logits(model, pixels[place], names, protocol)
            over[place] += 1
    return total / over


def pamr(image: torch.Tensor, scores: torch.Tensor, iterations: int, dilations=(8, 16)) -> torch.Tensor:
    """By windows of 3 x 3 pixels, so far apart; image [3, H, W], scores [P, H, W]."""

    def taps(maps: torch.Tensor) -> torch.Tensor:
        of_dilations = []
        for dilation in dilations:
            padded = functional.pad(maps[:, None], [dilation] * 4, mode="replicate")
            of_dilations.append(functional.unfold(padded, 3, dilation=dilation).reshape(-1, 9, *maps.shape[1:]))
        return torch.cat(of_dilations, dim=1)  # [channels, 9 taps of each dilation, H, W]

    neighbours = [tap for tap in range(9 * len(dilations)) if tap % 9 != 4]
    around = taps(image)
    deviation = around.std(dim=1, keepdim=True)
    alike = -(image[:, None] - around[:, neighbours]).abs() / (1e-8 + 0.1 * deviation)
    weights = torch.zeros(1, around.shape[1], *image.shape[1:]).double()
    weights[:, neighbours] = torch.softmax(alike.mean(dim=0, keepdim=True), dim=1)
    for _ in range(iterations):
        scores = torch.stack([(taps(of_name[None]) * weights).sum(dim=(0, 1)) for of_name in scores])
    return scores


def labels(model, image: PIL.Image.Image, protocol, names: np.ndarray, class_of_name: list[int]) -> np.ndarray:
    """The class of every pixel of an image at its own size."""
    pixels, size = fed(image, protocol), image.size[::-1]
    scores = slide(model, pixels, names, protocol)
    scores = functional.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    if protocol.refinements:
        normalised = (pixels / 255 - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
        channels = torch.tensor(normalised).permute(2, 0, 1)[None]
        channels = functional.interpolate(channels, size, mode="bilinear", align_corners=False)[0]
        scores = pamr(channels, scores, protocol.refinements)
    by_probability = "probability" in protocol.background
    if by_probability:
        scores = torch.softmax(protocol.scale * scores, dim=0)
    of_class = torch.full((max(class_of_name) + 1, *size), -torch.inf).double()
    for number, of_name in zip(class_of_name, scores):
        of_class[number] = torch.maximum(of_class[number], of_name)
    if protocol.smallest_share:
        areas = torch.nn.functional.one_hot(of_class.argmax(0), len(of_class)).sum(dim=(0, 1))[1:]
        of_class[1:] *= (areas > protocol.smallest_share * areas.sum())[:, None, None]
    predicted, best = of_class.argmax(0), of_class.max(0).values
    if protocol.background != "prompts":
        threshold = min(protocol.threshold, best.max()) if protocol.at_most_best else protocol.threshold
        predicted[best < threshold] = 0
    return predicted.numpy()
