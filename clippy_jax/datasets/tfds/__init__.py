"""Prepared data sets of TensorFlow Datasets."""
