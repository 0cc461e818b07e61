"""Figures of what a model sees."""
