"""The collectives counted in compiled programs that are known to send so much."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tools.benchmarks.collectives import Collective, collectives

MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
SPLIT, SAME = PartitionSpec("data"), PartitionSpec()
PART = 8 * 16 * 4  # bytes of what one device holds of X
X = jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=NamedSharding(MESH, SPLIT))


def compiled(function, *arguments):
    return collectives(jax.jit(function).lower(*arguments).compile().as_text())


def on_each_device(function, out_specs=SPLIT, mesh=MESH):
    return jax.shard_map(function, mesh=mesh, in_specs=SPLIT, out_specs=out_specs, check_vma=False)


def ring(x):
    return jax.lax.ppermute(x, "data", [(d, (d + 1) % 8) for d in range(8)])


@pytest.mark.parametrize(
    "function, out_specs, kind, result, sent",
    [
        (lambda x: jax.lax.psum(x, "data"), SAME, "all-reduce", PART, 2 * 7 / 8 * PART),
        (lambda x: jax.lax.all_gather(x, "data", tiled=True), SAME, "all-gather", 8 * PART, 7 * PART),
        (lambda x: jax.lax.psum_scatter(x, "data", tiled=True), SPLIT, "reduce-scatter", PART / 8, 7 / 8 * PART),
        (lambda x: jax.lax.all_to_all(x, "data", 0, 0, tiled=True), SPLIT, "all-to-all", PART, 7 / 8 * PART),
        (ring, SPLIT, "collective-permute", PART, PART),
    ],
)
def test_bytes_of_each_kind(function, out_specs, kind, result, sent):
    (one,) = compiled(on_each_device(function, out_specs), X)
    assert one == Collective(kind, result, 8, 1) and one.sent == sent


def test_nested_loops_multiply():
    def inner(_, x):
        return jax.lax.psum(x, "data") / 8

    def outer(_, x):
        return ring(jax.lax.fori_loop(0, 3, inner, x))

    found = compiled(on_each_device(lambda x: jax.lax.fori_loop(0, 5, outer, x)), X)
    assert sorted(found, key=lambda one: one.kind) == [
        Collective("all-reduce", PART, 8, 15),
        Collective("collective-permute", PART, 8, 5),
    ]


def test_split_layers_are_gathered_one_by_one():
    """What the compiler puts in by itself: three layers, each a matrix whose rows are spread over the devices."""

    def layers(x, weights):
        return jax.lax.scan(lambda x, weight: (jnp.tanh(x @ weight), None), x, weights)[0]

    split_rows = NamedSharding(MESH, PartitionSpec(None, "data"))
    weights = jax.ShapeDtypeStruct((3, 16, 16), jnp.float32, sharding=split_rows)
    assert compiled(layers, X, weights) == [Collective("all-gather", 16 * 16 * 4, 8, 3)]


def test_groups_of_some_devices():
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    summed = on_each_device(lambda x: jax.lax.psum(x, "model"), SPLIT, mesh)
    (one,) = compiled(summed, jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert one == Collective("all-reduce", 4 * PART, 4, 1)


def test_of_two_branches_the_one_that_sends_more_counts():
    def either(x):
        return jax.lax.cond(x[0, 0] > 0, ring, lambda x: jax.lax.psum(x, "data"), x)

    assert compiled(on_each_device(either), X) == [Collective("all-reduce", PART, 8, 1)]


def test_a_loop_of_unknown_length_cannot_be_counted():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 9, ring, x)

    with pytest.raises(ValueError, match="unknown length"):
        compiled(on_each_device(loop), X)


# As XLA prints programs for GPUs and TPUs, where a collective starts and is awaited later.
ASYNCHRONOUS = """HloModule jit_f, num_partitions=16

%wrapped (p: f32[64]) -> f32[4] {
  %p = f32[64]{0} parameter(0)
  ROOT %r = f32[4]{0:T(1024)} reduce-scatter(%p), replica_groups=[1,16]<=[16], dimensions={0}, to_apply=%add
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (x: f32[4], y: bf16[4,2]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %y = bf16[4,2]{1,0} parameter(1)
  %g = ((f32[4]{0}, bf16[4,2]{1,0}), (f32[8]{0}, bf16[8,2]{1,0})) all-gather-start(%x, %y), replica_groups=[8,2]<=[16]
  %h = (f32[8]{0}, bf16[8,2]{1,0}) all-gather-done(%g)
  %s = (f32[4]{0}, /*index=1*/bf16[4,2]{1,0}) all-reduce-start(%x, %y), replica_groups={}, to_apply=%add
  %t = (f32[4]{0}, bf16[4,2]{1,0}) all-reduce-done(%s)
  %u = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %v = f32[4]{0} collective-permute-done(%u)
  %w = ((f32[64]{0}), f32[4]{0}, u32[]) async-start(%x), calls=%wrapped
  ROOT %z = f32[4]{0} async-done(%w)
}
"""


def test_asynchronous_collectives():
    assert collectives(ASYNCHRONOUS) == [
        Collective("all-gather", 8 * 4 + 16 * 2, 2, 1),
        Collective("all-reduce", 4 * 4 + 8 * 2, 16, 1),
        Collective("collective-permute", 4 * 4, 16, 1),
        Collective("reduce-scatter", 4 * 4, 16, 1),
    ]
