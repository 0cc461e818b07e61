"""What lies on disk, read without JAX: tars, tables, TensorFlow Datasets, image trees, masks, vocabularies."""
