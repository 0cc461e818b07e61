"""The embedded data set, rendered in the formats of the real ones."""
