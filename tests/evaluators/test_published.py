import importlib
import pathlib

import absl.flags
import pytest
from ml_collections import config_flags

from clippy_jax.config import parse
from clippy_jax.evaluators import published

RECIPE = pathlib.Path(__file__).parents[2] / "configs/b16.py"


def test_every_row_has_a_figure_or_a_blank_for_every_column():
    for table in published.tables().values():
        assert table.title and table.source and table.rows
        for who, figures in table.rows.items():
            assert len(figures) == len(table.columns), who
            assert all(figure is None or 0 < figure < 100 for figure in figures)


def test_rows_are_those_with_a_figure():
    assert published.rows("segmentation", "PASCAL VOC, public, train") == [("public notebook, clippy_5k.pt", 42.107)]
    assert published.rows("classification", "ImageNet-v2 top-1")[0] == ("paper, CC-12M", 40.0)
    assert published.rows("pooling", "VOC", "Jaccard")[-1] == ("paper, cls", 4.0, 40.4)


TRAININGS = [flags for table in published.tables().values() for flags in table.trainings.values()]


@pytest.mark.parametrize("flags", TRAININGS)
def test_the_training_that_a_blank_asks_for_is_one(flags):
    importlib.import_module("clippy_jax.main")
    argv = ["main", f"--config={RECIPE}", "--config.input.train=pairs.tar", "--config.input.tokenizer=t5"]
    argv += [*(flag.replace('"', "") for flag in flags.split())]
    private = absl.flags.FlagValues()
    values = config_flags.DEFINE_config_file("config", flag_values=private, sys_argv=argv)
    private(argv)
    parse(values.value)
