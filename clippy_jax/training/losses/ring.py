"""All pairs of rows and columns that are spread over devices, in blocks that pass by: no device ever holds them all.

Every device keeps its rows. The columns travel from device to device around a ring, and what is summed up for them
travels along, until both are home again. What a device needs grows with its share of the batch, not with the batch's
square.
"""

from collections.abc import Callable
from typing import Any

import jax

# How many logits a device computes at once: 8 MB of them.
LOGITS_AT_ONCE = 2**21


def around_the_ring(
    visit: Callable[[Any, Any, Any, Any], tuple[Any, Any]],
    rows: Any,
    columns: Any,
    row_sums: Any,
    column_sums: Any,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> tuple[Any, Any]:
    """Lets every block of rows meet all columns. To be called inside `jax.shard_map`, on the mesh axis `data`.

    Args:
      visit: (rows, columns, row sums, column sums) → (row sums, column sums), of a block with a few of the rows.
      rows: a tree of arrays [b, ...], the same b for all; this device's part.
      columns: a tree of arrays [b, ...] likewise.
      row_sums: what is summed up over the columns for each row: constants [b, ...] to start from.
      column_sums: what is summed up over the rows for each column, likewise.
      logits_at_once: the most pairs in a block.

    Returns:
      The row sums and the column sums of this device's rows and columns.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    size = max(1, min(count, logits_at_once // count))
    devices = jax.lax.axis_size("data")

    def visit_part(start, size, columns, sums):
        row_sums, column_sums = sums

        def part(tree):
            return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), tree)

        new, column_sums = visit(part(rows), columns, part(row_sums), column_sums)
        # In place: a stack of new parts would need the memory of the sums once more.
        row_sums = jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, start, 0), row_sums, new)
        return row_sums, column_sums

    def visit_all(columns, sums):
        whole = count // size
        sums = jax.lax.fori_loop(0, whole, lambda i, sums: visit_part(i * size, size, columns, sums), sums)
        if count % size:
            sums = visit_part(whole * size, count % size, columns, sums)
        return sums

    def send(tree):
        if devices == 1:
            return tree
        return jax.lax.ppermute(tree, "data", [(d, (d + 1) % devices) for d in range(devices)])

    def turn(_, carry):
        columns, sums = carry
        arriving = send(columns)  # asked for first, so that it travels while the block is computed
        row_sums, column_sums = visit_all(columns, sums)
        return arriving, (row_sums, send(column_sums))

    # The same on all devices so far; `shard_map` wants to be told that they will not stay so.
    sums = jax.lax.pcast((row_sums, column_sums), "data", to="varying")
    return jax.lax.fori_loop(0, devices, turn, (columns, sums))[1]
