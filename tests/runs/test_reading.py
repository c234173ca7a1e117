"""Tables as people have them, through the commands: separators, decimals, codes, sheets, labels, covariates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import mvcore
from mvcore import runs
from mvcore.cli import main

pytest.importorskip("openpyxl")
N = 60


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def config(folder: Path, **changes: Any) -> Path:
    """A config that reads the folder as it is written, some of it otherwise or, where None, left out."""
    said = {
        "ids": "patient", "separator": ";", "decimal": ",", "thousands": ".", "encoding": "cp1252",
        "missing": ["<0,1", "k.A."], "categories": ["stage", "grade"], "labels": "died", "context": ["site", "age"],
        "sheets": {"pathology": "findings"},
    } | changes  # fmt: skip
    lines = [f"{key} = {_toml(value)}" for key, value in said.items() if value is not None]
    text = f'[data]\nfolder = "{folder}"\nlikelihoods = {{ pathology = "categorical" }}\ntrain = 0.75\n'
    file = folder.parent / "config.toml"
    file.write_text(f"{text}{chr(10).join(lines)}\n[model]\nlatent_dim = 2\n[training]\nepochs = 2\n", encoding="utf-8")
    return file


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'{k} = "{v}"' for k, v in value.items()) + " }"
    return "[" + ", ".join(f'"{v}"' for v in value) + "]" if isinstance(value, list) else f'"{value}"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ``;``-separated file of a German laboratory, and a spreadsheet of findings of other patients."""
    rng = np.random.default_rng(0)
    labs = [f"{i:04};{1000.5 + i:,.1f};{rng.normal(5):.2f};{rng.choice(['Köln', 'Bonn'])};{20 + i}" for i in range(N)]
    german = [line.replace(",", "x").replace(".", ",").replace("x", ".") for line in labs]
    german[3] = "0003;<0,1;k.A.;Bonn;23"
    german[4] = "0004;1.004,5;<0,1;Bonn;24"
    path = tmp_path / "tables"
    path.mkdir()
    text = "patient;ferritin;crp;site;age\n" + "\n".join(german[:3] + german[4:]) + "\n"
    (path / "labs.csv").write_text(text, encoding="cp1252")
    findings = pd.DataFrame(
        {
            "stage": rng.choice(["I", "II", "III"], N),
            "patient": [f"{i:04}" for i in range(N)],
            "grade": rng.choice([1, 2, 3], N),
            "died": rng.choice(["yes", "no"], N),
        }
    )
    findings.loc[10:20, "died"] = None
    findings = findings.drop(index=[3, 7, 8])
    with pd.ExcelWriter(path / "pathology.xlsx") as book:
        pd.DataFrame({"about": ["nothing to read"]}).to_excel(book, sheet_name="read me", index=False)
        findings.to_excel(book, sheet_name="findings", index=False)
    return path


def test_tables_are_read_as_they_are_written(folder: Path) -> None:
    rows = runs.data_of(_trained(folder), folder)
    data = rows.train
    assert data.schema["labs"].columns == ("ferritin", "crp")
    assert data.schema["pathology"].columns == ("stage", "grade")
    assert data.schema["pathology"].category_names == (("I", "II", "III"), (1, 2, 3))
    assert [c.name for c in data.schema.context] == ["site", "age"]
    assert data.schema.context[0].category_names == ("Bonn", "Köln")
    ids = [*data.ids.tolist(), *rows.test.ids.tolist()]  # type: ignore[union-attr]
    assert sorted(ids) == [f"{i:04}" for i in range(N) if i != 3]
    at = {i: n for n, i in enumerate(data.ids.tolist())}  # type: ignore[union-attr]
    batch = data.batch()
    row = next(i for i in ("0004", "0005", "0006") if i in at)
    number = int(batch.column("labs")[: at[row]].sum())
    assert batch.x["labs"][number, 0] == 1000.5 + int(row)
    assert batch.context["age"][at[row]] == 20 + int(row)


def _trained(folder: Path) -> Path:
    out = folder.parent / "run"
    if not out.exists():
        result = run("train", config(folder), "--out", out, "--quiet")
        assert result.exit_code == 0, result.output
        assert "rows have labs + pathology" in result.output
    return out


def test_labels_of_some_rows_are_probed_and_new_rows_need_none(folder: Path) -> None:
    out = _trained(folder)
    report = run("evaluate", out, "--data", folder, "--metric", "linear_probe", "--json", "--quiet")
    assert report.exit_code == 0, report.output
    assert "linear_probe/observed" in report.output
    new = folder.parent / "new"
    new.mkdir()
    (new / "labs.csv").write_text("age;crp;patient;site;ferritin\n40;k.A.;0999;Köln;1.200,5\n", encoding="cp1252")
    filled = run("impute", out, new, "--out", folder.parent / "filled", "--interval", 0.9)
    assert filled.exit_code == 0, filled.output
    table = pd.read_csv(folder.parent / "filled/labs.csv", index_col=0, dtype={0: str})
    assert table.columns.tolist() == ["ferritin", "crp"]
    assert table.loc["0999", "ferritin"] == 1200.5
    (new / "labs.csv").write_text("age;crp;patient;site;ferritin\n40;k.A.;0999;Mainz;1.200,5\n", encoding="cp1252")
    refused = run("impute", out, new, "--out", folder.parent / "other")
    assert refused.exit_code == 1
    assert "the column 'site' has the unknown categories 'Mainz'" in refused.output
    assert not (folder.parent / "other").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"separator": None, "decimal": None, "thousands": None}, "one column where ',' separates.*separator = ';'"),
        (
            {"decimal": None, "thousands": None, "missing": ["k.A."]},
            r"'1.000,5' in the column 'ferritin' of the row '0000', a decimal comma: say \[data\] decimal = ','",
        ),
        ({"missing": ["<0,1"]}, r"'k.A.' in the column 'crp' of the row '0003'.*missing = \['k.A.'\]"),
        ({"sheets": None}, r"has 2 sheets, 'read me', 'findings'; .*\[data\] sheets = \{ pathology = 'read me' \}"),
        ({"sheets": {"pathology": "data"}}, "has no sheet 'data'; it has 'read me', 'findings'"),
        ({"sheets": {"pathology": "findings", "labs": "x", "rna": "y"}}, "sheets names 'rna', which is no table"),
        ({"ids": "id"}, "has no column 'id' of ids, or several; it has 'patient', 'ferritin'"),
        ({"encoding": "utf-8"}, "is no text in the encoding 'utf-8'.*encoding = 'cp1252'"),
        ({"encoding": "klingon"}, "encoding must be one that Python has"),
        ({"decimal": ";"}, "must differ"),
        ({"separator": "::"}, "separator must be one character"),
        ({"labels": "dead"}, "No table has a column 'dead'; there are 'ferritin', 'crp'"),
        ({"labels": "site"}, "is that of the labels and a covariate"),
        ({"categories": ["stages"]}, "categories names 'stages', which no table has"),
        ({"context": ["sex"]}, "No table has a column 'sex'"),
    ],
)
def test_what_is_written_otherwise_is_one_clear_error(folder: Path, changes: dict[str, Any], message: str) -> None:
    if "missing" in changes and "decimal" not in changes:
        text = (folder / "labs.csv").read_text(encoding="cp1252") + "0003;<0,1;k.A.;Bonn;23\n"
        (folder / "labs.csv").write_text(text, encoding="cp1252")
    result = run("train", config(folder, **changes), "--out", folder.parent / "run", "--quiet")
    assert result.exit_code == 1, result.output
    assert re.search(message, " ".join(result.output.split())), result.output
    assert not (folder.parent / "run").exists()


def test_a_label_that_is_also_a_feature_is_refused(folder: Path) -> None:
    text = (folder / "labs.csv").read_text(encoding="cp1252").splitlines()
    lines = [f"{text[0]};died", *(f"{line};1" for line in text[1:])]
    (folder / "labs.csv").write_text("\n".join(lines), encoding="cp1252")
    result = run("train", config(folder), "--out", folder.parent / "run", "--quiet")
    assert "'died' of labels or covariates stands in the tables 'labs', 'pathology'" in result.output


def test_ids_that_are_alike_after_reading_are_refused(folder: Path) -> None:
    text = (folder / "labs.csv").read_text(encoding="cp1252") + "0005;1.000,0;2,00;Bonn;25\n"
    (folder / "labs.csv").write_text(text, encoding="cp1252")
    result = run("train", config(folder), "--out", folder.parent / "run", "--quiet")
    assert result.exit_code == 1
    assert "'0005'" in result.output
    assert "more than one row" in result.output


def test_how_files_are_written_is_no_matter_of_a_registered_data_set() -> None:
    with pytest.raises(mvcore.ConfigError, match="are of a folder"):
        runs.run_data({"use": "mfeat", "decimal": ",", "separator": ";"})
