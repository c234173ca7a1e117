"""A card says what the model is, its examples run, the Hub can read its header, and its owner's text stays."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

import mvcore
from mvcore import runs
from mvcore.data.dataset import MultimodalDataset
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.errors import HubError
from mvcore.models.base import Model
from mvcore.options import Pattern, TrainingRecord
from mvcore.sharing import blocks
from mvcore.testing import StandInHub

REPORT = mvcore.Report(
    values={"linear_probe/2_inputs": 0.75, "imputation/a": float("nan"), "interval_coverage/a/0.9": 0.88},
    skipped={"coherence": "it needs classifiers"},
    about={"model": "MultimodalVAE", "rows": 4, "training rows": 20, "seed": 3, "K": 7, "batch_size": 2},
)


def card_of(hub: StandInHub, repo: str = "ann/model") -> str:
    return hub.repos[repo].at().files["README.md"].decode()


def examples(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_the_header_is_what_the_hub_reads(hub: StandInHub, trained: Model) -> None:
    mvcore.push(trained, "ann/model", license="cc-by-4.0", report=REPORT, datasets=["ann/cohort"])
    data = ModelCard(card_of(hub)).data  # as the Hub's own client reads it
    assert (data.library_name, data.license, data.datasets) == ("mvcore", "cc-by-4.0", ["ann/cohort"])
    assert {"mvcore", "multimodal", "variational-autoencoder", "missing-data"} <= set(data.tags or [])
    metrics = {(r.metric_type, r.metric_name): r.metric_value for r in data.eval_results or []}
    assert metrics == {
        ("linear_probe", "linear_probe/2_inputs"): 0.75,
        ("interval_coverage", "interval_coverage/a/0.9"): 0.88,
    }  # a value that is no number is none
    assert {r.dataset_name for r in data.eval_results or []} == {"ann/cohort"}


def test_it_says_what_the_model_is_and_how_it_was_trained(hub: StandInHub, trained: Model) -> None:
    mvcore.push(trained, "ann/model", license="mit", report=REPORT)
    text = card_of(hub)
    for line in [
        "# model",
        'pip install "mvcore"',
        "| a | 3 | normal |",
        "| image | 1 × 8 × 8 | normal |",
        "| word | 2 | categorical, 3 categories |",
        # every second row has the image, the others the word; two of three have the bits
        "| a + bits + image | 8 |",
        "| a + bits + word | 8 |",
        "| a + image | 4 |",
        "| a + word | 4 |",
        "| batch_size | `8` |",
        "| linear_probe/2_inputs   | 0.750 |",
        "| coherence | it needs classifiers |",
        "report = mvcore.evaluate(model, test, train=train, seed=3, K=7, batch_size=2)",
        "- No training row has both of: image and word. How they go together was never seen.",
        "- Modalities that fewer than 100 of the training rows have: a (24), bits (16), image (12), word (12).",
        "- Intervals are the model's own: how often they held on test rows is above.",
        "Licence: mit.",
    ]:
        assert line in text, f"{line}\n\n{text}"
    assert "2 epochs on 24 rows; mean loss" in text
    assert f"mvcore {mvcore.__version__}, torch {torch.__version__}" in text


def test_no_licence_is_assumed_and_one_that_is_named_stays(hub: StandInHub, model: Model, caplog: Any) -> None:
    mvcore.push(model, "ann/model")
    assert "license" not in yaml.safe_load(card_of(hub).split("---")[1])
    assert "Its authors named no licence" in card_of(hub)
    assert "is given no licence" in caplog.text
    caplog.clear()
    mvcore.push(model, "ann/model", license="mit")
    mvcore.push(model, "ann/model")
    assert yaml.safe_load(card_of(hub).split("---")[1])["license"] == "mit"
    assert "Licence: mit." in card_of(hub)
    assert "no licence" not in caplog.text


def test_without_a_report_it_says_so_and_an_older_one_is_gone(hub: StandInHub, model: Model) -> None:
    mvcore.push(model, "ann/model", license="mit", report=REPORT)
    assert "## Evaluation" in card_of(hub)
    mvcore.push(model, "ann/model")
    assert "## Evaluation" not in card_of(hub)
    assert "model-index" not in card_of(hub)
    assert "- It comes with no evaluation." in card_of(hub)
    assert "How it was trained was not recorded." in card_of(hub)


def test_what_its_owner_wrote_stays(hub: StandInHub, trained: Model) -> None:
    mvcore.push(trained, "ann/model", license="mit", report=REPORT)
    before = card_of(hub)
    mine = [
        "Above all.\n\n",
        "## Cohort\n\nSixty people.\n\n",
        "## Ethics\n\nApproved.\n\n",
        "\n\nThe end: `<!-- -->`.",
    ]
    end = before.index("-->", before.index("mvcore:about")) + 4
    edited = before[:end] + mine[0] + before[end:]  # above the first heading, inside a block
    edited = edited.replace("<!-- mvcore:training", f"{mine[1]}<!-- mvcore:training")  # between two blocks
    edited = edited.replace("<!-- /mvcore:limits", f"\n{mine[2]}<!-- /mvcore:limits")  # inside one, with a heading
    edited = edited.rstrip("\n") + mine[3]
    edited = edited.replace("license: mit", "license: mit\nlanguage: de\nextra:\n  mine: [1, 2]")
    edited = edited.replace("- missing-data", "- missing-data\n- medical")
    hub.repos["ann/model"].commit({**hub.repos["ann/model"].at().files, "README.md": edited.encode()})
    with torch.no_grad():
        next(trained.parameters()).add_(1)
    assert mvcore.push(trained, "ann/model").changed
    after = card_of(hub)
    positions = [after.index(part.strip()) for part in mine]
    assert positions == sorted(positions)
    assert positions[0] < after.index("# model\n") < after.index("## Modalities") < positions[1]
    assert positions[1] < after.index("## Training") < after.index("## Limits") < positions[2]
    header = yaml.safe_load(after.split("---")[1])
    assert (header["language"], header["extra"], header["license"]) == ("de", {"mine": [1, 2]}, "mit")
    assert "medical" in header["tags"]
    assert "## Evaluation" not in after
    assert all(after.count(heading) == 1 for heading in ("## Use", "## Limits", "# model\n", "## Cohort"))
    assert mvcore.push(trained, "ann/model").changed is False  # and what stays, stays as it is


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_card_that_was_there_first_stays_below(line_end: str, hub: StandInHub, model: Model) -> None:
    mine = "---\nlicense: mit\ntags: [x]\n---\n\n# Hello\n\nMine.\n".replace("\n", line_end)
    hub.add("ann/model", {"README.md": mine.encode()})
    mvcore.push(model, "ann/model")
    text = card_of(hub)
    assert text.index("## Limits") < text.index("# Hello\n\nMine.\n")
    assert ModelCard(text).data.license == "mit"
    assert mvcore.push(model, "ann/model").changed is False


@pytest.mark.parametrize(
    "header", ["a: [", "- 1\n- 2", "a: &a [*a", "!!python/object/apply:os.system [echo]", "[" * 10_000, "a: b: c"]
)
def test_a_header_that_can_not_be_kept_is_told(header: str, hub: StandInHub, model: Model) -> None:
    hub.add("ann/model", {"README.md": f"---\n{header}\n---\n".encode()})
    with pytest.raises(HubError, match=r"The header of the README\.md on the Hub is no"):
        mvcore.push(model, "ann/model", license="mit")
    assert len(hub.repos["ann/model"].commits) == 1


def test_blocks_are_put_where_they_were_and_new_ones_behind_the_one_before() -> None:
    text = blocks.joined("", {"a": "# A", "c": "## C"})
    assert text.index("# A") < text.index("## C")
    text = text.replace("<!-- mvcore:c", "mine\n\n<!-- mvcore:c")
    text = blocks.joined(text, {"a": "# A2", "b": "## B", "c": "## C2"})
    assert [text.index(part) for part in ("# A2", "## B", "mine", "## C2")] == sorted(
        text.index(part) for part in ("# A2", "## B", "mine", "## C2")
    )
    assert blocks.joined(text, {"a": "# A2", "b": "## B", "c": "## C2"}) == text
    assert blocks.joined(text, {}).strip() == "mine"


def test_a_heading_inside_an_example_is_no_heading() -> None:
    block = {"a": "# A\n\n```python\n# a comment\n```"}
    text = blocks.joined("", block)
    assert blocks.joined(text, block) == text


def tables(kind: str) -> dict[str, pd.DataFrame]:
    """Two tables of one kind of columns."""
    columns: dict[str, list[Any]] = {
        "floats": [0.5, 1.5, None, 2.0],
        "ints": [1, 2, 3, 4],
        "bools": [True, False, True, True],
        "categories": ["x", "y", "x", "z"],
    }
    frame = pd.DataFrame({"c 1": columns[kind], "c 2": columns[kind][::-1]}, index=[f"p{i}" for i in range(4)])
    if kind == "categories":
        frame = frame.astype("category")
    return {"first table": frame, "other": pd.DataFrame({"n": [1.0, 2.0, 3.0]}, index=["p0", "p2", "p5"])}


def data_of(kind: str) -> MultimodalDataset:
    rng = np.random.default_rng(0)
    if kind in ("floats", "ints", "bools", "categories"):
        likelihoods = {"ints": {"first table": "poisson"}}.get(kind, {})
        return mvcore.from_frames(tables(kind), likelihoods=likelihoods)
    if kind == "covariates of tables":
        context = pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0, 5.0], "sex": pd.Categorical(list("fmffm"))})
        context.index = pd.Index(["p0", "p1", "p2", "p3", "p5"])
        return mvcore.from_frames(tables("floats"), context=context)
    arrays: dict[str, Any] = {
        "images": {"a'b": rng.random((6, 1, 8, 8)), "z": rng.normal(size=(6, 2))},
        "codes": {"a": np.arange(12).reshape(6, 2) % 3, "z": rng.normal(size=(6, 2))},
        "covariates": {"a": rng.normal(size=(6, 2)), "z": rng.normal(size=(6, 2))},
    }[kind]
    context = {"age": rng.normal(size=6), "site": np.arange(6) % 2} if kind == "covariates" else None
    return MultimodalDataset(arrays, {"z": np.arange(6) > 1}, context=context)


@pytest.mark.parametrize(
    "kind",
    ["floats", "ints", "bools", "categories", "covariates of tables", "images", "codes", "covariates"],
)
def test_the_examples_run_on_every_kind_of_modality(kind: str, hub: StandInHub) -> None:
    torch.manual_seed(0)
    data = data_of(kind)
    model = mvcore.create("multimodal", data, latent_dim=2)
    model.fit_transforms(data)
    mvcore.push(model, "ann/model", license="mit")
    found = examples(card_of(hub))
    assert len(found) == 2
    namespace: dict[str, Any] = {}
    for example in found:
        exec(compile(example, "card", "exec"), namespace)
    assert set(namespace["filled"]) == set(model.schema.names)
    assert len(namespace["filled"][model.schema.names[-1]].filled) == 1
    assert namespace["points"].shape == (1, 2)


def test_the_example_of_an_evaluation_gives_its_numbers_again(hub: StandInHub) -> None:
    """Of a registered data set, whose split the record has."""
    data = {"use": "miniacc", "train": 0.8, "seed": 1}
    rows = runs.run_data(data)
    model = mvcore.create("multimodal", rows.train, latent_dim=2)
    model = mvcore.fit(model, rows.train, epochs=1, progress=False).model
    assert model.record is not None
    import attrs

    model.record = attrs.evolve(model.record, data=data)
    metrics = ["log_likelihood"]
    report = mvcore.evaluate(model, rows.test, train=rows.train, metrics=metrics, seed=5, K=3)
    mvcore.push(model, "ann/model", license="mit", report=report)
    namespace: dict[str, Any] = {}
    example = examples(card_of(hub))[2].replace("K=3", f"metrics={metrics}, K=3")  # the others take long
    exec(compile(example, "card", "exec"), namespace)
    assert namespace["report"].values == report.values
    assert ModelCard(card_of(hub)).data.datasets == ["miniacc"]


def test_names_of_strangers_make_no_text_of_their_own(hub: StandInHub) -> None:
    evil = "<!-- /mvcore:modalities -->|`x`"
    schema = Schema((ModalitySpec(name=evil, shape=(2,)), ModalitySpec(name="b", shape=(1,))))
    model = mvcore.create("multimodal", schema, latent_dim=2)
    model.record = TrainingRecord(
        rows=3, validation_rows=0, patterns=(Pattern(modalities=(evil,), rows=3),), epochs=1, loss=0.0, stopped=False,
        device="\x1b[31m", processes=1, options={"<b>": "\n# heading"}, versions={"mvcore": "<script>"},
    )  # fmt: skip
    mvcore.push(model, "ann/model", license="mit")
    text = card_of(hub)
    assert text.count("<!-- /mvcore:modalities -->") == 1
    assert "<script>" not in text
    assert "<b>" not in text
    assert "\n# heading" not in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert mvcore.push(model, "ann/model").changed is False
