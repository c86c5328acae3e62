"""The notebooks run from the first cell to the last, and hold no output of somebody's machine."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
BOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def test_three_are_there_without_outputs():
    assert [path.stem for path in BOOKS] == ["own_loop", "photographs", "sentences"]
    for path in BOOKS:
        cells = nbformat.read(path, as_version=4).cells
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABLAME_CACHE", str(tmp_path / "cache"))
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    last = [cell for cell in book.cells if cell.cell_type == "code"][-1]
    assert last.outputs
