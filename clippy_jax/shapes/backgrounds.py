"""What the places look like: textures with noise, in [0, 1], of any size in pixels."""

import numpy as np

from clippy_jax.shapes.drawing import Colours, centred_grid, mix, noise, step, turned, vary


def grass(pixels: int, rng: np.random.Generator) -> Colours:
    blades = noise(rng, pixels, rng.integers(26, 40), 5) + 0.7 * noise(rng, pixels, 48, 12)
    patches = noise(rng, pixels, 4)
    colours = mix(vary(rng, (0.16, 0.36, 0.09)), vary(rng, (0.42, 0.62, 0.20)), np.clip(0.5 + 0.28 * blades, 0, 1))
    return mix(colours, (0.55, 0.56, 0.22), np.clip(0.25 * patches, 0, 0.4))


def water(pixels: int, rng: np.random.Generator) -> Colours:
    ripples = noise(rng, pixels, 6, rng.integers(16, 26)) + 0.5 * noise(rng, pixels, 14, 40)
    deep, shallow = vary(rng, (0.07, 0.27, 0.45)), vary(rng, (0.28, 0.55, 0.70))
    colours = mix(deep, shallow, np.clip(0.45 + 0.25 * ripples + 0.2 * noise(rng, pixels, 3), 0, 1))
    return mix(colours, (0.85, 0.93, 0.97), 0.8 * step(ripples - 1.6, 0.4))


def sand(pixels: int, rng: np.random.Generator) -> Colours:
    x, y = turned(*centred_grid(pixels, 1), rng.uniform(-0.6, 0.6))
    dunes = np.sin(y * rng.uniform(12, 20) + 1.2 * noise(rng, pixels, 4) + x) * rng.uniform(0.2, 1)
    grain = noise(rng, pixels, 56)
    colours = mix(vary(rng, (0.68, 0.54, 0.36)), vary(rng, (0.90, 0.79, 0.58)), np.clip(0.5 + 0.3 * dunes, 0, 1))
    return np.clip(colours * (1 + 0.07 * grain), 0, 1)


def brick(pixels: int, rng: np.random.Generator) -> Colours:
    x, y = turned(*centred_grid(pixels, 1), rng.uniform(-0.08, 0.08))
    rows = rng.uniform(3.0, 4.2)
    y = y * rows + rng.uniform(0, 1)
    row = np.floor(y)
    x = x * rows / 2.2 + 0.5 * (row % 2) + rng.uniform(0, 1)
    column = np.floor(x)
    to_joint = np.minimum(0.5 - abs(y - row - 0.5), (0.5 - abs(x - column - 0.5)) * 2.2)
    shades = rng.uniform(-1, 1, (32, 32)).astype(np.float32)
    shade = shades[row.astype(int) % 32, column.astype(int) % 32] + 0.5 * noise(rng, pixels, 40)
    bricks = mix(vary(rng, (0.46, 0.20, 0.15)), vary(rng, (0.68, 0.36, 0.26)), np.clip(0.5 + 0.4 * shade, 0, 1))
    mortar = mix(vary(rng, (0.64, 0.61, 0.56)), (0.78, 0.75, 0.70), np.clip(0.5 + 0.3 * noise(rng, pixels, 30), 0, 1))
    return mix(mortar, bricks, step(to_joint - 0.09, 0.04))


def snow(pixels: int, rng: np.random.Generator) -> Colours:
    drifts = (
        noise(rng, pixels, 4, rng.integers(6, 10)) + 0.5 * noise(rng, pixels, 10, 24) + 0.4 * noise(rng, pixels, 50)
    )
    colours = mix(vary(rng, (0.74, 0.81, 0.91), 0.03), (0.97, 0.98, 0.99), np.clip(0.7 + 0.3 * drifts, 0, 1))
    return np.clip(colours + 0.12 * np.maximum(noise(rng, pixels, 64) - 1.6, 0), 0, 1)


def wood(pixels: int, rng: np.random.Generator) -> Colours:
    _, y = centred_grid(pixels, 1)
    boards = y * rng.uniform(2.0, 3.2) + rng.uniform(0, 1)
    board = np.floor(boards)
    tones = rng.uniform(-1, 1, 16).astype(np.float32)[board.astype(int) % 16]
    wave = np.sin(y * rng.uniform(30, 44) + 2.2 * noise(rng, pixels, 2, 5))
    grain = 0.5 * wave + 0.7 * noise(rng, pixels, 4, 48) + 0.8 * tones
    colours = mix(vary(rng, (0.36, 0.22, 0.12)), vary(rng, (0.62, 0.43, 0.26)), np.clip(0.5 + 0.28 * grain, 0, 1))
    return mix((0.14, 0.08, 0.05), colours, step(0.5 - abs(boards - board - 0.5) - 0.035, 0.03))


PLACES = {"brick": brick, "grass": grass, "sand": sand, "snow": snow, "water": water, "wood": wood}
