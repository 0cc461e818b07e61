"""Tar shards: samples by random access, their index, and the image data sets that come as tars."""
