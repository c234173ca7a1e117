"""The demonstration: ``mvcore demo``. The defaults on two partially observed data sets."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import click
import torch

import mvcore
from mvcore.data.dataset import MultimodalDataset
from mvcore.evaluation import figures
from mvcore.evaluation.report import Report, markdown
from mvcore.metrics.imputation import Hidden
from mvcore.metrics.specs import ImputationConfig, LinearProbeConfig, LogLikelihoodConfig
from mvcore.models.base import Model

IMPUTATION, LIKELIHOOD = ImputationConfig(K=64), LogLikelihoodConfig(K=200)


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
    report = mvcore.evaluate(model, test, train=train, metrics=[IMPUTATION, LinearProbeConfig(), LIKELIHOOD])
    partial = mvcore.evaluate(model, mvcore.mcar(test, 0.3, seed=2), metrics=[LIKELIHOOD])
    scores = {
        "linear probe, all six views": report.values["linear_probe/observed"],
        **{f"linear probe, {m} alone": report.values[f"linear_probe/given/{m}"] for m in ("fou", "pix")},
        "log-likelihood of a complete test row (nats)": report.values["log_likelihood"],
        "log-likelihood of a test row with 30 % missing": partial.values["log_likelihood"],
    }
    show_results(report, hidden(report, train, test), scores, out, "mfeat")
    points = mvcore.embed(model, test)
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
    report = mvcore.evaluate(model, test, train=train, metrics=[IMPUTATION, LIKELIHOOD])
    scores = {"log-likelihood of a test patient (nats)": report.values["log_likelihood"]}
    show_results(report, hidden(report, train, test), scores, out, "miniacc")
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


def hidden(report: Report, train: MultimodalDataset, test: MultimodalDataset) -> list[dict[str, Any]]:
    """For each hidden modality what was scored on how many rows, and the scores of the model and the baselines."""
    rows = []
    for task in (Hidden(train, test, name) for name in test.schema.names):
        of = {key: report.values[f"imputation/{task.name}/{key}"] for key in ("mean", "ridge", "neighbours")}
        about = {"modality": task.name, "score": task.kind, "rows": len(task.test)}
        rows.append({**about, "model": report.values[f"imputation/{task.name}"], **of})
    return rows


def show_results(report: Report, hidden: list[dict[str, Any]], scores: dict[str, float], out: Path, name: str) -> None:
    """Prints, writes and draws the metrics."""
    table = markdown(list(hidden[0]), [list(row.values()) for row in hidden])
    click.echo(f"\nOne modality hidden at a time in the test rows, predicted from the others:\n\n{table}\n")
    click.echo(markdown(("metric", "value"), scores.items()) + "\n")
    found = {"imputation": hidden, "metrics": scores}
    (out / f"{name}_metrics.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for metric, figure in report.draw().items():
        if metric == "imputation":
            figure.axes[0].set_xticklabels([f"{row['modality']}\n({row['score']})" for row in hidden])
        save(figure, out / f"{name}_{metric}.png")


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
