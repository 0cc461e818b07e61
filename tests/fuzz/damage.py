"""What is done to good files: bytes and values changed as decay, broken tools and bad intent change them."""

import copy
import json
from typing import Any

import numpy as np

_ODD_BYTES = (
    b"",
    b"\0",
    b"\xff" * 12,
    b"\n",
    b'"',
    b"\xef\xbb\xbf",
    b"-1",
    b"9" * 25,
    b"0 path=x\n",
    b"77777777777",
    b"\x80",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
)
_ODD_VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**70, -(2**70), 0.5, 1e308, float("nan"), float("inf")),
    *("", "\0", "x" * 5000, "../../etc/passwd", "/dev/zero", "\ud800", "é", "1", "nan"),
    *([], {}, [[]], [None], {"": None}, ["x"] * 300),
)
_DEEP = ("[" * 100_000, '{"a":' * 100_000, "9" * 10_000)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Bytes changed, cut off, left out, doubled or written over with what parsers stumble over."""
    content = bytearray(content)
    for _ in range(random.integers(1, 6)):
        place, length = random.integers(len(content) + 1), int(2 ** random.uniform(0, 9))
        match random.integers(6):
            case 0 | 1:
                if place < len(content):
                    content[place] ^= 1 << random.integers(8)
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = content[place : place + length]
            case 4:
                odd = _ODD_BYTES[random.integers(len(_ODD_BYTES))]
                content[place : place + len(odd)] = odd
            case 5:
                content[place : place + length] = random.bytes(length)
    return bytes(content[: random.integers(len(content) + 1)] if random.random() < 0.1 else content)


def odd_value(random: np.random.Generator) -> Any:
    """Something that JSON can say and hardly anybody expects."""
    return copy.deepcopy(_ODD_VALUES[random.integers(len(_ODD_VALUES))])


def damaged_json(value: Any, random: np.random.Generator) -> bytes:
    """A JSON file in which values are of other types, keys missing or new; now and then no JSON at all."""
    if random.random() < 0.03:
        return _DEEP[random.integers(len(_DEEP))].encode()
    value = json.loads(json.dumps(value))
    for _ in range(random.integers(1, 4)):
        value = _with_a_change(value, random)
    text = json.dumps(value).encode()
    return damaged(text, random) if random.random() < 0.3 else text


def _with_a_change(value: Any, random: np.random.Generator) -> Any:
    """The value with one of its nodes replaced, removed or added."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.15:
        return odd_value(random)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = keys[random.integers(len(keys))]
    match random.integers(8):
        case 0:
            del value[key]
        case 1:
            if isinstance(value, dict):
                value["another key"] = odd_value(random)
            else:
                value.append(odd_value(random))
        case _:
            value[key] = _with_a_change(value[key], random)
    return value
