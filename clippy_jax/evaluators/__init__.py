"""Evaluations with named protocols, the same for the command line and for a training run."""
