"""The memory that segmenting a large image needs beyond the towers, by protocol, from compiled programs: nothing is
run."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clippy_jax.datasets import label_layouts
from clippy_jax.evaluators import confusion_matrix, protocols
from clippy_jax.inference import label_maps
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report, environment

# width and height of the image in pixels, protocols
SIZES = {"b16": ((2048, 1024), None), "tiny": ((2048, 1024), ("naclip", "dinotxt"))}
IMAGE_SIZE, PATCH_SIZE = 224, 16
NAMES = label_layouts.COCO_STUFF.vocabulary  # 171
PACKAGES = ("jax", "jaxlib")


def measure(size: str) -> Report:
    """What lies in memory beside images and towers while an image of Cityscapes is compared with so many names."""
    image, names = SIZES[size]
    names = names or protocols.names()
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    cases, progress = [], Progress(len(names))
    for name in names:
        progress.begin(f"compiling {name}")
        protocol = protocols.read(name, label_layouts.CITYSCAPES_19)
        fed = protocol.fed_size(*image, IMAGE_SIZE, PATCH_SIZE)[::-1]
        sides = tuple(protocol.side(length, PATCH_SIZE) for length in fed)
        labelled = fed if protocol.resize == "centre_crop" else image[::-1]
        how = confusion_matrix.How(
            sides,
            protocol.prompts(NAMES)[1],
            len(NAMES.classes),
            protocol.average_probabilities and protocol.scale,
            protocol.refinements,
        )
        scores = jax.ShapeDtypeStruct(
            (1, *(side.count * side.patches for side in sides), len(how.decision.class_of_name)), jnp.float32
        )
        pixels = jax.ShapeDtypeStruct((1, *(side.length for side in sides), 3), jnp.uint8)
        labels = jax.ShapeDtypeStruct((1, *map(label_maps.padded_length, labelled)), jnp.uint8)
        length = jax.ShapeDtypeStruct((1, 2), jnp.int32)
        compiled = confusion_matrix.count.lower(scores, pixels, length, labels, length, how, mesh).compile()
        count_of_bytes = compiled.memory_analysis().temp_size_in_bytes + scores.size * scores.dtype.itemsize
        what = f"{name}, {image[0]}x{image[1]}, {len(how.decision.class_of_name)} names"
        cases.append(Case(what, count_of_bytes / 1e9, None, "GB a device"))
    return Report(environment(jax.devices()[0].device_kind, PACKAGES), cases)
