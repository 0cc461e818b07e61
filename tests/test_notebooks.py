"""Every notebook's code, cell by cell in this process, in a folder as `make demo` leaves it.

A few lines instead of nbclient: no kernel has to start, and programs that were compiled once are used again.
The cell tagged "parameters" is followed by smaller values; what needs a longer training is not asked of a run of two
steps. Outputs are committed as they came out of Jupyter, with the model of `make demo`.
"""

import json
import pathlib

import matplotlib
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MOST_BYTES = 500_000  # of a notebook with its outputs
TINY = {f"model.image.{name}": value for name, value in dict(width=32, depth=1, heads=2, mlp_width=32).items()}
TINY |= {
    f"model.text.{name}": value for name, value in dict(width=32, depth=1, mlp_width=32, embedding_width=32).items()
}
PARAMETERS = {
    "1_inference": {"IMAGE": "data/shapes/voc/JPEGImages/val_000000.jpg"},
    "2_evaluation": {},
    "3_train_on_your_own_tars": {
        "STEPS": 2,
        "PAIRS": 40,
        "OVERRIDES": {**TINY, "input.batch_size": 16, "input.texts_per_pack": 2},
    },
    "4_max_pooling": {"WORKDIRS": dict.fromkeys(("max", "cls"), "runs/shapes"), "SCENES": 2},
}


def code_cells(notebook: pathlib.Path) -> list[tuple[str, bool]]:
    """The text of each cell of code, and whether it sets the parameters."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return [
        ("".join(cell["source"]), "parameters" in cell["metadata"].get("tags", ()))
        for cell in cells
        if cell["cell_type"] == "code"
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_every_cell_runs(notebook, demo_folder, monkeypatch, tmp_path):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    for name in ("configs", "data", "runs"):  # what a notebook writes stays in a folder of its own
        (tmp_path / name).mkdir()
        for path in (demo_folder / name).iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    scope = {"__name__": "__main__"}
    for source, sets_parameters in code_cells(notebook):
        exec(compile(source, f"{notebook.name}: {source.partition(chr(10))[0]}", "exec"), scope)
        if sets_parameters:
            unknown = PARAMETERS[notebook.stem].keys() - scope.keys()
            assert not unknown, f"the notebook has no {unknown}"
            scope |= PARAMETERS[notebook.stem]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_outputs_are_there_small_and_without_errors(notebook):
    assert notebook.stat().st_size < MOST_BYTES
    cells = [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert kinds and "error" not in kinds
    assert all(cell["execution_count"] for cell in cells)
