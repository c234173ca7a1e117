"""Folders of tables: the same rows from every format, ids as they are written, and no file left out in silence."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import mvcore
from mvcore import runs
from mvcore.cli import main
from mvcore.data.folders import read_folder
from mvcore.errors import DataError, MissingExtraError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("openpyxl")

IDS = ["0071", "1E5", "NA", "7", "a b"]
VALUES = pd.DataFrame({"crp": [1.5, np.nan, 3.0, 4.0, 5.0], "ldl": [1, 2, 3, 4, 5]}, index=pd.Index(IDS, name="id"))


def polars_like(frame: pd.DataFrame, file: Path) -> None:
    """As polars, DuckDB and R write: columns alone, no metadata of pandas."""
    plain = frame.reset_index()
    parquet.write_table(pa.table({c: pa.array(plain[c].tolist()) for c in plain}), file)


WRITE: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "x.csv": lambda f, p: f.to_csv(p),
    "x.CSV": lambda f, p: f.to_csv(p),
    "x.tsv": lambda f, p: f.to_csv(p, sep="\t"),
    "x.csv.gz": lambda f, p: f.to_csv(p),
    "x.Tsv.GZ": lambda f, p: p.write_bytes(gzip.compress(f.to_csv(sep="\t").encode())),
    "x.parquet": lambda f, p: f.to_parquet(p),
    "x.Parquet": lambda f, p: f.reset_index().to_parquet(p, index=False),
    "x.PARQUET": lambda f, p: f.reset_index().to_parquet(p),  # a stored range is no ids
    "x.pArquet": polars_like,
    "x.xlsx": lambda f, p: f.to_excel(p),
}


@pytest.mark.parametrize("name", WRITE)
def test_every_format_gives_the_same_table_with_its_ids_as_written(tmp_path: Path, name: str) -> None:
    WRITE[name](VALUES, tmp_path / name)
    found = runs.read_tables(tmp_path)
    assert list(found) == ["x"]
    assert found["x"].index.tolist() == IDS
    assert found["x"].columns.tolist() == ["crp", "ldl"]
    np.testing.assert_array_equal(found["x"].to_numpy(float), VALUES.to_numpy(float))


def test_integers_as_ids_match_the_same_written_as_text_and_rows_are_joined_by_id(tmp_path: Path) -> None:
    polars_like(pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=pd.Index([7, 8, 9], name="id")), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("id,b\n9,30\n7,10\n")
    data = mvcore.from_frames(runs.read_tables(tmp_path))
    assert data.ids is not None
    assert data.ids.tolist() == ["7", "8", "9"]
    assert data.schema["a"].columns == ("a",)
    assert data.observed.tolist() == [[True, True], [True, False], [True, True]]
    assert data.batch().x["b"].tolist() == [[10], [30]]


def test_a_file_of_r_without_a_name_above_its_ids_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text('"crp"\t"ldl"\n"0071"\t1.5\t2\n"p2"\tNA\t3\n')
    found = runs.read_tables(tmp_path)["r"]
    assert found.index.tolist() == ["0071", "p2"]
    assert found.columns.tolist() == ["crp", "ldl"]
    assert found["crp"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "id,a,a\np,1,2\n", "more than one column called 'a'"),
        ("x.csv", "id,a\n,1\nq,2\n", "1 rows without an id"),
        ("x.csv", "id,a\np,1\np,2\n", "more than one row with the id 'p'"),
        ("x.csv", "id\np\n", "a column of ids and one of values"),
        ("x.csv", "", "cannot be read as a table"),
        ("x.csv", 'id,a\np,"1\n', "cannot be read as a table"),
        ("x.csv.gz", "no gzip", "cannot be read as a table"),
        ("x.parquet", "no parquet", "cannot be read as a table"),
        ("x.xlsx", "no workbook", "cannot be read as a table"),
    ],
)
def test_what_is_no_table_is_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        mvcore.from_frames(runs.read_tables(tmp_path))


def test_a_first_column_of_values_several_sheets_and_two_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    VALUES.to_parquet(tmp_path / "x.parquet", index=False)
    with pytest.raises(DataError, match="must hold the ids, text or integers; 'crp' holds float64"):
        runs.read_tables(tmp_path)
    with pd.ExcelWriter(tmp_path / "x.xlsx") as book:
        for sheet in ("one", "two"):
            VALUES.to_excel(book, sheet_name=sheet)
    (tmp_path / "x.parquet").unlink()
    with pytest.raises(DataError, match="has 2 sheets, 'one', 'two'"):
        runs.read_tables(tmp_path)
    VALUES.to_csv(tmp_path / "x.tsv", sep="\t")
    (tmp_path / "x.xlsx").rename(tmp_path / "x.csv")
    with pytest.raises(DataError, match="cannot be read as a table"):
        runs.read_tables(tmp_path)


def test_training_says_what_it_reads_what_it_does_not_and_which_tables_share_no_id(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    rng = np.random.default_rng(0)
    for name, start in {"a": "p", "b": "p", "c": "q"}.items():
        frame = pd.DataFrame(rng.normal(size=(8, 2)), columns=["u", "v"], index=[f"{start}{i}" for i in range(8)])
        frame[: 4 if name == "b" else 8].to_csv(tables / f"{name}.csv")
    (tables / "notes.txt").write_text("not a table")
    (tables / ".hidden.csv").write_text("not looked at")
    (tmp_path / "c.toml").write_text(
        f"[data]\nfolder = '{tables}'\ntrain = 1\n[model]\nuse = 'multimodal'\nlatent_dim = 2\n[training]\nepochs = 1\n"
    )
    result = CliRunner().invoke(main, ["train", str(tmp_path / "c.toml"), "--out", str(tmp_path / "run"), "--quiet"])
    assert result.exit_code == 0, result.output
    for line in (
        "16 rows to train on",
        "a: 2, normal, in 8 rows",
        "8 rows have c",
        "4 rows have a + b",
        "'notes.txt' in",
        "'a' and 'c' share no id; their first are 'p0' and 'q0'",
    ):
        assert line in result.output
    assert "'a' and 'b' share no id" not in result.output
    assert "hidden" not in result.output


def test_text_is_refused_in_words_of_files_and_read_where_the_config_calls_it_categories(tmp_path: Path) -> None:
    tables, config, out = tmp_path / "tables", tmp_path / "c.toml", tmp_path / "run"
    tables.mkdir()
    rng = np.random.default_rng(0)
    index = pd.Index([f"p{i}" for i in range(12)], name="id")
    pd.DataFrame({"u": rng.normal(size=12)}, index=index).to_csv(tables / "labs.csv")
    kinds = pd.DataFrame({"stage": ["I", "II", "III"] * 4, "sex": ["f", "m"] * 6}, index=index)
    kinds.iloc[2:].to_csv(tables / "kinds.csv")

    def invoke(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        return result.exit_code, result.output

    head = f"[data]\nfolder = '{tables}'\ntrain = 1\n"
    tail = "[model]\nuse = 'multimodal'\nlatent_dim = 2\n[training]\nepochs = 1\n"
    config.write_text(head + tail)
    code, output = invoke("train", config, "--out", out, "--quiet")
    assert code == 1
    assert "the table 'kinds' has text in the columns 'stage', 'sex'" in output
    assert "likelihoods = { kinds = 'categorical' }" in output
    for word in ("astype", "pandas", "frame", "Traceback"):
        assert word not in output
    config.write_text(head + "likelihoods = { kinds = 'categorical' }\n" + tail)
    code, output = invoke("train", config, "--out", out, "--quiet")
    assert code == 0, output
    assert mvcore.load(out / "model").schema["kinds"].category_names == (("I", "II", "III"), ("f", "m"))
    code, output = invoke("impute", out, tables, "--out", tmp_path / "filled", "--draws", 9)
    assert code == 0, output
    filled = pd.read_csv(tmp_path / "filled/kinds.csv", index_col=0)
    assert (filled.loc[index[2:]] == kinds.iloc[2:]).all(axis=None)
    assert set(filled["sex"]) == {"f", "m"}


@pytest.mark.parametrize(("name", "module"), [("labs.xlsx", "openpyxl"), ("labs.parquet", "pyarrow.parquet")])
def test_a_missing_package_is_named_by_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)  # what Python answers where it is not installed
    with pytest.raises(MissingExtraError, match=rf"'{name}' needs .*pip install \"mvcore\[frames\]\""):
        read_folder(tmp_path)
