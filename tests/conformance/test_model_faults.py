"""Planted faults of models that the checks of order, views, cells and covariates are meant to catch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from mvcore.data.batch import Batch
from mvcore.data.transforms import InputTransform
from mvcore.distributions.diagonal import Diagonal, DiagonalNormal
from mvcore.errors import DataError
from mvcore.inference import estimators
from mvcore.likelihoods.observations import Observation
from mvcore.losses.base import LossOutput
from mvcore.losses.elbo import ELBO
from mvcore.losses.passes import Pass
from mvcore.models.base import Model
from mvcore.models.context import Covariates
from mvcore.models.multimodal import MultimodalVAE
from mvcore.posteriors.product import ProductOfExperts
from mvcore.testing import cells, order, told
from mvcore.testing.conformance import Case


def case() -> Case:
    return Case("model", "mvcore:multimodal", {"modality_dropout": 0.0})


def test_the_core_s_model_has_none_of_them() -> None:
    for check in (order.order, order.batch_order, order.views, cells.cells, told.covariates):
        check(case())


def test_a_model_that_prefers_the_first_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    fuse = ProductOfExperts.fuse

    def preferring(self: ProductOfExperts, experts: Diagonal, S: Tensor) -> Diagonal:
        weight = torch.ones(len(experts.loc), 1, 1).double()
        weight[0] = 2.0
        return fuse(self, DiagonalNormal(experts.loc, experts.log_scale - 0.5 * weight.log()), S)

    monkeypatch.setattr(ProductOfExperts, "fuse", preferring)
    with pytest.raises(AssertionError, match="loss of the modalities in another order"):
        order.order(case())


def test_a_model_that_takes_modalities_by_their_place_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = MultimodalVAE.encode_modalities

    def first_alone(self: MultimodalVAE, batch: Batch) -> Any:
        return encode(self, batch.only(batch.names[:2]))

    monkeypatch.setattr(MultimodalVAE, "encode_modalities", first_alone)
    with pytest.raises(AssertionError, match="a batch's modalities in another order"):
        order.batch_order(case())


def test_a_loss_that_counts_the_modalities_of_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ELBO.forward

    def shared(self: ELBO, p: Pass) -> LossOutput:
        output = forward(self, p)
        return LossOutput(output.loss / max(1, len(p.batch.names)), output.terms)

    monkeypatch.setattr(ELBO, "forward", shared)
    with pytest.raises(AssertionError, match=r"view without \('a',\), beside that of rows without them"):
        order.views(case())


@pytest.mark.parametrize("owner", [InputTransform, Observation])
def test_a_model_that_reads_what_stands_behind_unknown_cells(owner: type, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {InputTransform: "forward", Observation: "log_prob"}[owner]
    method = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda self, x, known=None: method(self, x, None))
    with pytest.raises(AssertionError, match=r"behind unknown cells of .* changes the loss"):
        cells.cells(case())


def test_a_model_that_leaves_unknown_cells_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = estimators.fill

    def unmasked(model: Model, batch: Batch, latents: Any, name: str) -> Tensor:
        return fill(model, batch.with_values(batch.x, batch.observed, {}), latents, name)

    monkeypatch.setattr(estimators, "fill", unmasked)
    with pytest.raises(DataError, match="no finite imputed value"):  # NaN stands there
        cells.cells(case())


def test_encoders_that_are_not_told_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    def untold(self: Model, name: str, batch: Batch, x: Tensor) -> Any:
        return self.encoders[name](x, None, None)  # type: ignore[operator]

    monkeypatch.setattr(Model, "_encode_one", untold)
    with pytest.raises(AssertionError, match="encoder of 'a' is not told which cells are known"):
        cells.cells(case())


def test_covariates_of_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Covariates.forward
    monkeypatch.setattr(Covariates, "forward", lambda self, context, like: forward(self, context, like).roll(1, 0))
    with pytest.raises(AssertionError, match="mean of its rows"):
        told.covariates(case())


@pytest.mark.parametrize("name", ["age", "site", "dose"])
def test_a_covariate_that_networks_are_not_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Covariates.forward

    def without(self: Covariates, context: Mapping[str, Tensor], like: Tensor) -> Tensor:
        return forward(self, {**context, name: torch.zeros_like(context[name])}, like)

    monkeypatch.setattr(Covariates, "forward", without)
    with pytest.raises(AssertionError, match=f"covariate '{name}' changes nothing in the embeddings"):
        told.covariates(case())


def test_decoders_that_are_not_told_covariates(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = MultimodalVAE.decode

    def untold(self: MultimodalVAE, latents: Any, name: str, context: Tensor | None = None) -> Observation:
        return decode(self, latents, name, None if context is None else torch.zeros_like(context))

    monkeypatch.setattr(MultimodalVAE, "decode", untold)
    with pytest.raises(AssertionError, match="covariate 'age' changes nothing in what is generated of 'a'"):
        told.covariates(case())


def test_size_factors_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from mvcore.likelihoods.counts import NegativeBinomialObservation

    monkeypatch.setattr(NegativeBinomialObservation, "scaled", lambda self, factors: self)
    with pytest.raises(AssertionError, match="for twice the size factors"):
        told.covariates(case())
