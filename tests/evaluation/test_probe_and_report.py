"""The linear probe, likelihoods of data sets, tables and figures."""

from typing import Any

import numpy as np
import pytest
import torch

import mvcore
from mvcore.data.batch import Batch
from mvcore.errors import DataError
from mvcore.evaluation import figures
from mvcore.evaluation.imputation import Imputation
from mvcore.evaluation.likelihood import conditional_log_likelihood, log_likelihood
from mvcore.evaluation.probe import linear_probe
from mvcore.evaluation.report import imputation_table, markdown


class Identity:
    """Embeds a row as the sum of what it has."""

    def embed(self, batch: Batch) -> torch.Tensor:
        return sum(torch.zeros(len(batch), 2).index_add(0, batch.rows(m), x) for m, x in batch.x.items())  # type: ignore[return-value]


def labelled(n: int, seed: int, **options: Any) -> mvcore.MultimodalDataset:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, n)
    a = np.stack([labels * 4.0 - 2 + 0.1 * generator.normal(size=n), generator.normal(size=n)], 1)
    b = 0.01 * generator.normal(size=(n, 2))
    return mvcore.MultimodalDataset({"a": a, "b": b}, labels=labels, **options)


def test_a_probe_reads_a_separable_label_and_not_what_is_not_there() -> None:
    train, test = labelled(200, 0), labelled(200, 1)
    assert linear_probe(Identity(), train, test) == 1.0  # type: ignore[arg-type]
    assert 0.35 < linear_probe(Identity(), train, test, ["b"]) < 0.65  # type: ignore[arg-type]


def test_a_probe_leaves_out_rows_with_none_of_the_given() -> None:
    has_a = np.arange(200) < 100
    test = labelled(200, 1, masks={"a": has_a})
    assert linear_probe(Identity(), labelled(200, 0), test, ["a"]) == 1.0  # type: ignore[arg-type]


def test_a_probe_without_labels_says_so() -> None:
    bare = mvcore.MultimodalDataset({"a": np.zeros((3, 2))})
    with pytest.raises(DataError, match="labels"):
        linear_probe(Identity(), bare, bare)  # type: ignore[arg-type]


def test_likelihoods_of_a_data_set_are_those_of_its_rows_whatever_the_batches() -> None:
    data = mvcore.mcar(mvcore.dataset("mfeat").select(range(6)), 0.3, seed=0)
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    # with one draw from a nearly exact posterior the estimates differ by noise alone, so compare large K loosely
    whole = log_likelihood(model, data, 4000)
    parts = log_likelihood(model, data, 4000, batch_size=2)
    torch.testing.assert_close(whole, parts, rtol=0, atol=2.0)
    conditional = conditional_log_likelihood(model, data, ["fou"], K=50)
    assert torch.equal(conditional.isnan(), ~data.observed[:, 0])


def test_a_markdown_table_is_aligned() -> None:
    table = markdown(("name", "x"), [("a", 0.12345), ("long name", 2)])
    assert table == "| name      | x     |\n|-----------|-------|\n| a         | 0.123 |\n| long name | 2     |"


def test_the_imputation_table_has_a_line_for_each_modality() -> None:
    results = [Imputation(modality=m, score="R²", rows=3, model=0.5, mean=0.0, ridge=0.4, neighbours=0.3) for m in "ab"]
    lines = imputation_table(results).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["hidden", "-" * 8, "a", "b"]
    assert lines[2].split("|")[4:8] == [" 0.500 ", " 0.000 ", " 0.400 ", " 0.300      "]


def test_figures_draw_what_they_are_given() -> None:
    data = mvcore.dataset("miniacc")
    above, below = figures.patterns(data).axes
    assert [bar.get_height() for bar in above.patches] == list(data.patterns().values())
    assert [label.get_text() for label in below.get_yticklabels()] == list(data.schema.names)
    results = [
        Imputation(modality=m, score="R²", rows=3, model=0.5, mean=0.0, ridge=0.4, neighbours=-9.0) for m in "ab"
    ]
    bars = [bar.get_height() for bar in figures.imputation(results).axes[0].patches]
    assert bars == pytest.approx([0.5, 0.5, 0.4, 0.4, -0.1, -0.1, 0.0, 0.0])
    rows = [
        {"epoch": e, "loss": 3.0 - e, "validation_loss": 4.0, "kl": 1.0, "reconstruction/a": 2.0 - e} for e in range(3)
    ]
    left, right = figures.history(rows).axes
    assert list(left.lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert list(right.lines[1].get_ydata()) == [2.0, 1.0, 0.0]


@pytest.mark.parametrize("lacking", [None, float("nan")])
@pytest.mark.parametrize("kind", [int, str, float])
def test_rows_without_a_label_are_left_out_and_counted(lacking: object, kind: type) -> None:
    """Scores of partly labelled rows are those of the labelled rows alone."""
    train, test = labelled(60, 0), labelled(40, 1)
    model = mvcore.create("multimodal", train, latent_dim=2)
    model.fit_transforms(train)
    kept = np.arange(40) % 4 != 0
    values: dict[bool, dict[str, float]] = {}
    for whole in (True, False):
        parts = []
        for data, keep in ((train, np.arange(60) < 50), (test, kept)):
            assert data.labels is not None
            some = np.array([kind(label) if k else lacking for label, k in zip(data.labels, keep, strict=True)], object)
            part = mvcore.MultimodalDataset.from_batch(data.schema, data.batch(), labels=some)
            parts.append(part.select(keep) if whole and data is test else part)
        classify = {m: lambda x: torch.zeros(len(x), 2) for m in ("a", "b")}
        report = mvcore.evaluate(
            model, parts[1], train=parts[0], metrics=["linear_probe", "clustering", "coherence"],
            resources={"classifiers": classify},
        )  # fmt: skip
        values[whole] = {name: v for name, v in report.values.items() if "unconditional" not in name}
        assert "10 of 60 rows have none" in report.skipped["labels/train"]
        assert ("10 of 40 rows have none" in report.skipped.get("labels/test", "")) == (not whole)
    scored = [name for name in values[True] if "agreement" not in name]
    assert len(scored) > 6
    assert [values[False][name] for name in scored] == pytest.approx([values[True][name] for name in scored])


def test_labels_that_no_row_has_leave_their_metrics_out() -> None:
    data = labelled(20, 0)
    bare = mvcore.MultimodalDataset.from_batch(data.schema, data.batch(), labels=np.array([None] * 20))
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    report = mvcore.evaluate(model, bare, train=bare, K=2)
    assert {"linear_probe", "clustering", "coherence"} <= set(report.skipped)
    assert "log_likelihood" in report.values
