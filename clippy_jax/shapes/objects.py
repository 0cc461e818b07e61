"""What the objects look like: an outline, and a colour and pattern that fill its inside.

Every class owns the look of its *inside*, since a patch from the middle of an object has nothing else to be named
by; and some pairs are easily mixed up (lemon and banana, apple and strawberry, ladybird and tiger, tiger and
zebra), so that the task keeps some headroom. A drawing's coordinates have their origin in the object's middle, y
downwards; its outline stays within the circle whose radius is the class's `reach`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from clippy_jax.shapes import drawing
from clippy_jax.shapes.drawing import Colour, Colours, Field, ellipse, hexagons, limb, mix, noise, step, union, vary

WHITE, BLACK = (0.95, 0.95, 0.93), (0.07, 0.06, 0.07)


@dataclasses.dataclass(frozen=True)
class Look:
    """One drawn object."""

    depth: Field  # positive inside the outline
    colours: Colours  # in [0, 1], before light falls on it
    roundness: float  # how far in from its border the surface curves: little is flat, 1 is a ball
    gloss: float  # strength of the highlight


def apple(x: Field, y: Field, rng: np.random.Generator) -> Look:
    dent = 0.2 * np.exp(-((x / 0.3) ** 2)) * (y < 0) + 0.08 * np.exp(-((x / 0.25) ** 2)) * (y > 0)
    fruit = 0.84 - np.hypot(x, (y - 0.1) / (0.98 - dent))
    streaks = noise(rng, len(x), 12, 3) * 0.25 + noise(rng, len(x), 3) * 0.2
    blush = np.clip(streaks + rng.uniform(0.0, 0.35) + 0.15 * y, 0, 1)
    colours = mix(vary(rng, (0.74, 0.07, 0.09)), vary(rng, (0.88, 0.66, 0.22)), blush)
    stem = limb(x, y, (0, -0.6), (rng.uniform(-0.15, 0.25), -0.92), (0.06, 0.07))
    leaf = ellipse(*drawing.turned(x, y, -0.5), (0.60, -0.6), (0.24, 0.11))
    colours = mix(colours, (0.33, 0.2, 0.1), step(stem, 0.02))
    colours = mix(colours, vary(rng, (0.25, 0.52, 0.16)), step(leaf, 0.02))
    return Look(union(fruit, stem, leaf), colours, roundness=0.8, gloss=0.5)


def lemon(x: Field, y: Field, rng: np.random.Generator) -> Look:
    tip = limb(x, y, (-0.85, 0), (0.85, 0), (0.13, 0.11))
    body = ellipse(x, y, (0, 0), (0.82, rng.uniform(0.58, 0.68)))
    pores = step(0.45 - hexagons(x + 0.03 * noise(rng, len(x), 8), y, rng.uniform(0.07, 0.09))[2], 0.25)
    colours = mix(vary(rng, (0.96, 0.84, 0.16)), (0.80, 0.62, 0.06), 0.55 * pores)
    colours = mix(colours, (0.66, 0.72, 0.18), np.clip(rng.uniform(0.3, 0.9) * (abs(x) - 0.45), 0, 0.5))
    return Look(union(body, tip), colours, roundness=0.7, gloss=0.35)


def banana(x: Field, y: Field, rng: np.random.Generator) -> Look:
    across, down = x, y + 0.65
    radius, angle = np.hypot(across, down), np.arctan2(across, down)
    width = 0.30 * np.clip(1.25 - (angle / 1.15) ** 4, 0.0, 1.0)
    depth = np.where(abs(angle) < 1.22, width - abs(radius - 0.98), -1).astype(np.float32)
    ridges = np.exp(-(((radius - 0.92) / 0.035) ** 2)) + np.exp(-(((radius - 1.12) / 0.03) ** 2))
    colours = mix(vary(rng, (0.95, 0.80, 0.22)), (0.70, 0.50, 0.10), 0.55 * ridges)
    freckles = step(noise(rng, len(x), 22) - rng.uniform(0.9, 1.5), 0.15)
    colours = mix(colours, (0.36, 0.21, 0.07), 0.85 * freckles)
    colours = mix(colours, (0.27, 0.20, 0.08), step(abs(angle) - 1.02, 0.06))
    return Look(depth, colours, roundness=0.3, gloss=0.2)


def strawberry(x: Field, y: Field, rng: np.random.Generator) -> Look:
    half_width = 0.78 * np.sqrt(np.clip((0.95 - y) / 1.5, 0, 1))
    fruit = np.minimum(np.minimum(half_width - abs(x), 0.55 * (0.95 - y)), 0.62 - np.hypot(x * 0.75, (y + 0.05) * 0.66))
    seed = step(0.42 - hexagons(x, y * 0.85, rng.uniform(0.115, 0.15))[2], 0.12)
    flesh = mix(vary(rng, (0.84, 0.10, 0.13)), (0.62, 0.03, 0.08), np.clip(0.5 * noise(rng, len(x), 4), 0, 1))
    colours = mix(flesh, (0.95, 0.80, 0.36), seed)
    spikes = 0.30 + 0.16 * abs(np.sin(3.5 * np.arctan2(y + 0.75, x) + rng.uniform(0, 3)))
    cap = (spikes - np.hypot(x, 1.7 * (y + 0.72))).astype(np.float32)
    colours = mix(colours, vary(rng, (0.22, 0.50, 0.14)), step(cap, 0.02))
    return Look(union(fruit, cap), colours, roundness=0.5, gloss=0.4)


def kiwi(x: Field, y: Field, rng: np.random.Generator) -> Look:
    y = y * rng.uniform(1.0, 1.15)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rays = 0.5 + 0.5 * np.sin(angle * int(rng.integers(16, 24)))
    flesh = mix(vary(rng, (0.46, 0.66, 0.13)), (0.68, 0.80, 0.30), rays * step(radius - 0.3, 0.15))
    colours = mix(flesh, (0.90, 0.93, 0.70), step(0.26 + 0.03 * np.sin(angle * 9) - radius, 0.06))
    sectors = angle * (int(rng.integers(13, 17)) / (2 * np.pi))
    ring = 0.42 + 0.07 * (np.floor(sectors) % 2)
    seeds = np.hypot((sectors % 1 - 0.5) * 0.32, (radius - ring) * 0.7)
    colours = mix(colours, BLACK, step(0.062 - seeds, 0.015))
    colours = mix(colours, vary(rng, (0.43, 0.30, 0.14)), step(radius - 0.84, 0.02))
    return Look(0.94 - radius, colours, roundness=0.15, gloss=0.3)


def doughnut(x: Field, y: Field, rng: np.random.Generator) -> Look:
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    drip = 0.29 + 0.025 * np.sin(angle * int(rng.integers(5, 9)) + rng.uniform(0, 6))
    glaze = step(drip - abs(radius - 0.62), 0.015)
    colours = mix(vary(rng, (0.80, 0.56, 0.28)), vary(rng, (0.95, 0.42, 0.62)), glaze)
    palette = np.array([(0.95, 0.85, 0.2), (0.25, 0.6, 0.9), (0.95, 0.95, 0.95), (0.4, 0.8, 0.35), (0.9, 0.25, 0.3)])
    q, r, distance, _ = hexagons(*drawing.turned(x, y, rng.uniform(0, 6)), 0.105)
    colour_of_cell = (q * 7 + r * 3 + q * r) % 8
    for number, colour in enumerate(palette):
        colours = mix(colours, colour, step(0.5 - distance, 0.1) * (colour_of_cell == number) * glaze)
    return Look(0.35 - abs(radius - 0.6), colours, roundness=0.35, gloss=0.3)


def ladybird(x: Field, y: Field, rng: np.random.Generator) -> Look:
    shell, head = ellipse(x, y, (0, 0.12), (0.74, 0.82)), ellipse(x, y, (0, -0.66), (0.44, 0.3))
    colours = vary(rng, (0.92, 0.40, 0.05))
    spots = np.full_like(x, -1)
    side = abs(x)
    for across, down in ((0.30, -0.22), (0.46, 0.18), (0.26, 0.52))[: rng.integers(2, 4)]:
        spots = np.maximum(spots, ellipse(side, y, (across, down), (rng.uniform(0.13, 0.19),) * 2))
    black = np.maximum(step(spots, 0.02), step(0.04 - side, 0.02))
    black = np.maximum(black, step(np.maximum(head, -0.42 - y), 0.02))
    colours = mix(colours, BLACK, black)
    colours = mix(colours, WHITE, step(ellipse(side, y, (0.26, -0.62), (0.12, 0.1)), 0.02))
    return Look(union(shell, head), colours, roundness=0.7, gloss=0.6)


def starfish(x: Field, y: Field, rng: np.random.Generator) -> Look:
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    from_arm = (angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5
    along, off = radius * np.cos(from_arm), abs(radius * np.sin(from_arm))
    depth = rng.uniform(0.30, 0.36) * (1 - np.clip(along / 0.97, 0, 1) ** 1.3) + 0.04 - off
    depth = np.where(along > 0.97, -1, depth).astype(np.float32)
    body = vary(rng, ((0.50, 0.28, 0.66), (0.38, 0.24, 0.66))[rng.integers(2)])
    colours = mix(body, body * 0.65, step(off - 0.12, 0.08))
    bumps = step(0.45 - hexagons(along, off, rng.uniform(0.085, 0.11))[2], 0.12)
    return Look(depth, mix(colours, (0.82, 0.78, 0.95), bumps), roundness=0.3, gloss=0.15)


def chessboard(x: Field, y: Field, rng: np.random.Generator) -> Look:
    squares = int(rng.integers(4, 7))
    dark, light = (0.30, 0.16, 0.09), (0.90, 0.76, 0.52)  # walnut and maple
    scale = squares / 1.26
    checks = np.sin(np.pi * scale * (x + 0.63)) * np.sin(np.pi * scale * (y + 0.63))
    colours = mix(vary(rng, dark, 0.03), vary(rng, light, 0.03), step(checks, 0.12))
    outermost = np.maximum(abs(x), abs(y))
    colours = mix(colours, vary(rng, (0.36, 0.22, 0.13)), step(outermost - 0.63, 0.015))
    return Look(0.70 - outermost, colours, roundness=0.05, gloss=0.1)


def football(x: Field, y: Field, rng: np.random.Generator) -> Look:
    radius = np.hypot(x, y)
    bulge = np.arcsin(np.clip(radius / 0.92, 0, 0.999)) / np.maximum(radius / 0.92, 1e-3)
    shift = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
    q, r, _, edge = hexagons(x * bulge + shift[0], y * bulge + shift[1], rng.uniform(0.27, 0.33))
    colours = mix(vary(rng, WHITE, 0.03), (0.55, 0.55, 0.55), step(edge - 0.9, 0.05))
    colours = mix(colours, vary(rng, (0.10, 0.22, 0.72)), step(0.88 - edge, 0.05) * ((q - r) % 3 == 0))
    return Look(0.92 - radius, colours, roundness=0.9, gloss=0.4)


def _on_four_legs(x: Field, y: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """The outline of a striped animal that looks to the left, and the field whose sign is its stripes."""
    stride = rng.uniform(-0.08, 0.08)
    body = ellipse(x, y, (0.1, 0.0), (0.72, 0.44))
    neck = limb(x, y, (-0.38, -0.1), (-0.66, -0.52), (0.30, 0.2))
    head = limb(x, y, (-0.66, -0.56), (-0.86, -0.40), (0.21, 0.13))
    ear = limb(x, y, (-0.56, -0.7), (-0.5, -0.84), (0.1, 0.06))
    legs = [
        limb(x, y, (0.12 + at, 0.2), (0.12 + at + side * stride, 0.84), (0.17, 0.12))
        for at, side in ((-0.5, 1), (-0.2, -1), (0.26, 1), (0.52, -1))
    ]
    tail = limb(x, y, (0.76, -0.1), (0.93, rng.uniform(0.1, 0.4)), (0.07, 0.06))
    across = x - 0.5 * y * (x < -0.35) + 0.06 * noise(rng, len(x), 5)
    stripes = np.sin(across * rng.uniform(17, 23) + rng.uniform(0, 6) + 0.8 * np.sin(3 * y))
    return union(body, neck, head, ear, tail, *legs), stripes


def zebra(x: Field, y: Field, rng: np.random.Generator) -> Look:
    outline, stripes = _on_four_legs(x, y, rng)
    colours = mix(vary(rng, WHITE, 0.03), vary(rng, BLACK), step(stripes, 0.3))
    return Look(outline, colours, roundness=0.4, gloss=0.0)


def tiger(x: Field, y: Field, rng: np.random.Generator) -> Look:
    outline, stripes = _on_four_legs(x, y, rng)
    coat = mix(vary(rng, (0.90, 0.52, 0.13)), (0.93, 0.82, 0.66), 0.8 * step(y - 0.28, 0.15))
    colours = mix(coat, vary(rng, BLACK), step(stripes - 0.35, 0.25))
    return Look(outline, colours, roundness=0.4, gloss=0.0)


def _bird(x: Field, y: Field, rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """The outline of a bird that looks to the left, its wing and its beak."""
    body = ellipse(*drawing.turned(x, y, rng.uniform(0.0, 0.2)), (0.05, 0.15), (0.66, 0.5))
    neck = limb(x, y, (-0.3, 0.0), (-0.42, -0.45), (0.32, 0.27))
    head = ellipse(x, y, (-0.44, -0.5), (0.33, 0.31))
    beak = limb(x, y, (-0.7, -0.46), (-0.93, -0.4), (0.12, 0.06))
    tail = limb(x, y, (0.5, 0.05), (0.88, rng.uniform(-0.3, 0.05)), (0.24, 0.12))
    wing = ellipse(*drawing.turned(x, y, 0.2), (0.2, 0.1), (0.5, 0.33))
    return union(body, neck, head, beak, tail), wing, beak


def waterbird(x: Field, y: Field, rng: np.random.Generator) -> Look:
    outline, wing, beak = _bird(x, y, rng)
    plumage = vary(rng, (0.78, 0.80, 0.82))
    bars = step(np.sin((y + 0.15 * x) * rng.uniform(24, 32)), 0.4)
    feathers = mix(vary(rng, (0.36, 0.45, 0.55)), vary(rng, (0.68, 0.74, 0.80)), bars)
    colours = mix(plumage, feathers, step(wing, 0.03))
    colours = mix(colours, vary(rng, (0.20, 0.32, 0.36)), step(-0.32 - y, 0.04))
    return Look(outline, _face(colours, x, y, vary(rng, (0.92, 0.60, 0.14)), beak), roundness=0.5, gloss=0.1)


def landbird(x: Field, y: Field, rng: np.random.Generator) -> Look:
    outline, wing, beak = _bird(x, y, rng)
    plumage = vary(rng, (0.80, 0.70, 0.58))
    speckles = step(noise(rng, len(x), 16) - 0.3, 0.3)
    feathers = mix(vary(rng, (0.48, 0.37, 0.28)), vary(rng, (0.80, 0.72, 0.58)), speckles)
    colours = mix(plumage, vary(rng, (0.80, 0.40, 0.22)), step(ellipse(x, y, (-0.38, 0.12), (0.32, 0.4)), 0.1))
    colours = mix(colours, feathers, step(wing, 0.03))
    colours = mix(colours, vary(rng, (0.42, 0.32, 0.25)), step(-0.42 - y, 0.04))
    return Look(outline, _face(colours, x, y, vary(rng, (0.30, 0.26, 0.22)), beak), roundness=0.5, gloss=0.1)


def _face(colours: Colours, x: Field, y: Field, beak_colour: Colour, beak: Field) -> Colours:
    colours = mix(colours, beak_colour, step(np.minimum(beak, -0.7 - x), 0.02))
    eye = ellipse(x, y, (-0.54, -0.56), (0.08, 0.08))
    return mix(mix(colours, WHITE, step(eye + 0.04, 0.02)), BLACK, step(eye, 0.02))


@dataclasses.dataclass(frozen=True)
class ObjectClass:
    """A word and how to draw what it names."""

    draw: Callable[[Field, Field, np.random.Generator], Look]
    turn: float  # largest turn either way, in radians
    reach: float = 1.0  # radius of the circle that holds the outline, in the drawing's coordinates


# How much of an unfamiliar bird's plumage is the other bird's; no bird of the training scenes has any.
BORROWED_PLUMAGE = (0.25, 0.45)


def _unfamiliar(own: Callable[..., Look], other: Callable[..., Look]) -> Callable[..., Look]:
    """Draws a bird whose colours lie between its own and those that the other bird would have in the same pose."""

    def draw(x: Field, y: Field, rng: np.random.Generator) -> Look:
        posed = np.random.default_rng(rng.integers(2**32))
        pose = posed.bit_generator.state
        look = own(x, y, posed)
        posed.bit_generator.state = pose
        colours = mix(look.colours, other(x, y, posed).colours, rng.uniform(*BORROWED_PLUMAGE))
        return dataclasses.replace(look, colours=colours)

    return draw


UPRIGHT, TILTED, ANY_WAY = 0.25, 0.6, np.pi

OBJECTS = {
    "apple": ObjectClass(apple, TILTED, reach=1.16),
    "banana": ObjectClass(banana, ANY_WAY),
    "chessboard": ObjectClass(chessboard, ANY_WAY),
    "doughnut": ObjectClass(doughnut, ANY_WAY),
    "football": ObjectClass(football, ANY_WAY),
    "kiwi": ObjectClass(kiwi, ANY_WAY),
    "ladybird": ObjectClass(ladybird, ANY_WAY),
    "landbird": ObjectClass(landbird, UPRIGHT, reach=1.08),
    "lemon": ObjectClass(lemon, ANY_WAY),
    "starfish": ObjectClass(starfish, ANY_WAY),
    "strawberry": ObjectClass(strawberry, TILTED, reach=1.1),
    "tiger": ObjectClass(tiger, UPRIGHT, reach=1.22),
    "waterbird": ObjectClass(waterbird, UPRIGHT, reach=1.08),
    "zebra": ObjectClass(zebra, UPRIGHT, reach=1.22),
}
UNFAMILIAR = {
    "landbird": dataclasses.replace(OBJECTS["landbird"], draw=_unfamiliar(landbird, waterbird)),
    "waterbird": dataclasses.replace(OBJECTS["waterbird"], draw=_unfamiliar(waterbird, landbird)),
}
