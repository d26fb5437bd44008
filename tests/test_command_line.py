"""``python -m ooclearn info`` and ``versions``."""

from __future__ import annotations

import numpy as np
import pytest

import ooclearn
from ooclearn.__main__ import main


def test_info_tells_the_schema_and_the_blocks_of_a_file(tmp_path, capsys):
    np.save(tmp_path / "X.npy", np.ones((1000, 3), dtype=np.float32))
    assert main(["info", str(tmp_path / "X.npy"), "--block-rows", "400"]) == 0
    out = capsys.readouterr().out
    assert "1,000 rows x 3 columns, float32, 1.2e-05 GB" in out
    assert "3 of 400 rows, 0.00458 MiB each, the last of 200" in out
    assert "blocks take at most" in out


def test_info_of_a_folder_and_of_labels(tmp_path, capsys):
    for part in range(2):
        np.save(tmp_path / f"{part}.npy", np.array(["yes", "no"]))
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "4 rows, <U3" in out
    assert "1 of 4 rows" in out
    assert "blocks take" not in out


@pytest.mark.parametrize("name", ["missing.npy", "table.xls", "broken.npy"])
def test_info_says_what_is_wrong_in_one_line(name, tmp_path, capsys):
    (tmp_path / "table.xls").write_bytes(b"")
    (tmp_path / "broken.npy").write_bytes(b"not an array")
    assert main(["info", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("ooclearn info: ")
    assert name in line


def test_versions_of_what_a_result_depends_on(capsys):
    assert main(["versions"]) == 0
    out = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert out["ooclearn"] == ooclearn.__version__
    assert out["numpy"] == np.__version__
    assert {"python", "scikit-learn", "scipy", "threadpoolctl", "blas"} <= set(out)
    assert {"numpy", "dask", "cupy", "array_api"} <= set(out["backends"].split(", "))


@pytest.mark.parametrize("arguments", [[], ["fly"]])
def test_an_unknown_command_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: python -m ooclearn" in capsys.readouterr().err
