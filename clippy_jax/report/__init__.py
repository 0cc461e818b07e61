"""The paper in one report: every figure that a checkpoint and the data at hand give, beside the published ones."""
