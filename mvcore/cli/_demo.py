"""The demonstration: ``mvcore demo``. The defaults on two partially observed data sets."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import click
import torch
from attrs import asdict

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.evaluation import figures
from mvcore.evaluation.report import imputation_table, markdown
from mvcore.metrics.imputation import Imputation, imputation
from mvcore.metrics.likelihood import log_likelihood
from mvcore.metrics.probe import embed, linear_probe
from mvcore.models.base import Model


def run(out: Path) -> None:
    """Trains ``multimodal`` on digits with hidden views and on a partial tumour cohort; writes figures and models."""
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    digits(out)
    tumours(out)
    click.echo(f"\nFigures, tables and models are in {out}/ ({time.perf_counter() - start:.0f} s in all).")


def digits(out: Path) -> None:
    """2,000 handwritten digits in six views, 30 % of the views of the training rows hidden."""
    click.echo("\n# mfeat: 2,000 handwritten digits in six views, 30 % of the modalities missing in training\n")
    train, test = mvcore.dataset("mfeat").split(0.8, seed=0)
    train = mvcore.mcar(train, 0.3, seed=1)
    show_patterns(train, out / "mfeat_patterns.png")
    torch.manual_seed(0)
    model = mvcore.create("multimodal", train)
    run = mvcore.fit(model, train, epochs=40)
    save(figures.history(run.history), out / "mfeat_training.png")
    results = imputation(model, train, test)
    scores: dict[str, float] = {
        "linear probe, all six views": linear_probe(model, train, test),
        **{f"linear probe, {m} alone": linear_probe(model, train, test, [m]) for m in ("fou", "pix")},
        "log-likelihood of a complete test row (nats)": float(log_likelihood(model, test, 200).mean()),
        "log-likelihood of a test row with 30 % missing": float(
            log_likelihood(model, mvcore.mcar(test, 0.3, seed=2), 200).mean()
        ),
    }
    show_results(results, scores, out, "mfeat")
    points = embed(model, test)
    save(figures.embedding(points, test.labels, title="Embeddings of test digits"), out / "mfeat_embedding.png")
    show_digits(reload(model, out / "mfeat_model", test), test, out / "mfeat_imputed_pixels.png")


def tumours(out: Path) -> None:
    """92 patients with adrenocortical carcinoma, of whom 43 have all five blocks."""
    click.echo("\n# miniacc: 92 patients with adrenocortical carcinoma, naturally partial\n")
    data = mvcore.dataset("miniacc")
    show_patterns(data, out / "miniacc_patterns.png")
    train, test = data.split(0.75, seed=0)
    torch.manual_seed(0)
    model = mvcore.create("multimodal", train)
    run = mvcore.fit(model, train, epochs=300)
    save(figures.history(run.history), out / "miniacc_training.png")
    results = imputation(model, train, test)
    show_results(
        results, {"log-likelihood of a test patient": float(log_likelihood(model, test, 200).mean())}, out, "miniacc"
    )
    loaded = reload(model, out / "miniacc_model", test)
    write_imputed(loaded, data, "protein", out / "miniacc_protein_imputed.csv")


def show_patterns(data: MultimodalDataset, path: Path) -> None:
    """Prints and draws which modalities the rows have."""
    counts = data.patterns()
    names = data.schema.names
    marks = [["●" if m in pattern else "·" for m in names] + [n] for pattern, n in list(counts.items())[:8]]
    click.echo(markdown([*names, "rows"], marks))
    rest = sum(list(counts.values())[8:])
    click.echo(f"{rest} more rows in {len(counts) - 8} other patterns\n" if rest else "")
    save(figures.patterns(data), path)


def show_results(results: list[Imputation], scores: dict[str, float], out: Path, name: str) -> None:
    """Prints, writes and draws the metrics."""
    click.echo(
        f"\nOne modality hidden at a time in the test rows, predicted from the others:\n\n{imputation_table(results)}\n"
    )
    click.echo(markdown(("metric", "value"), scores.items()) + "\n")
    table: dict[str, Any] = {"imputation": [asdict(r) for r in results], "metrics": scores}
    (out / f"{name}_metrics.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    save(figures.imputation(results), out / f"{name}_imputation.png")


def reload(model: Model, path: Path, data: MultimodalDataset) -> Model:
    """Saves the model, reads it back and says whether it is the same."""
    loaded = mvcore.load(mvcore.save(model, path))
    same = torch.equal(loaded.embed(data.batch()), model.embed(data.batch()))
    files = ", ".join(sorted(file.name for file in path.iterdir()))
    click.echo(f"Saved to {path}/ ({files}) and reloaded: {'equal' if same else 'DIFFERENT'} embeddings.")
    return loaded


def show_digits(model: Model, test: MultimodalDataset, path: Path) -> None:
    """Draws the hidden pixels of one digit of each class beside those imputed from the other views."""
    assert test.labels is not None
    rows = torch.tensor([int((test.labels == digit).argmax()) for digit in range(10)])
    batch = test.batch(rows)
    given = {
        "from all other views": batch.without(["pix"]),
        "from fou alone": batch.only(["fou"]),
        "from mor alone": batch.only(["mor"]),
    }
    images = {"truth": batch.x["pix"].unflatten(1, (16, 15))}
    images |= {name: model.impute(view)["pix"].unflatten(1, (16, 15)) for name, view in given.items()}
    save(figures.image_rows(images, title="Hidden pixels of test digits, imputed"), path)


def write_imputed(model: Model, data: MultimodalDataset, name: str, path: Path) -> None:
    """Writes one modality of all patients, its missing rows imputed."""
    assert data.ids is not None
    observed = data.batch().column(name)
    values = model.impute(data.batch())[name]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "observed", *(data.schema[name].columns or ())])
        for patient, has, row in zip(data.ids, observed.tolist(), values.tolist(), strict=True):
            writer.writerow([patient, int(has), *(f"{v:.4f}" for v in row)])
    click.echo(f"{int((~observed).sum())} of {len(data)} patients had no {name}; imputed in {path}.")


def save(figure: Any, path: Path) -> None:
    """Writes a figure as PNG."""
    figure.savefig(path)
