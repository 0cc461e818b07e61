"""The training input: from data sets on disk to batches of uint8 images and token ids."""
