"""The laws of DCCAE (Wang et al., 2015): classical CCA at its limit, autoencoders at the other, on partial rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import mvcore
from mvcore.cli import main
from mvcore.data import MultimodalDataset, Schema
from mvcore.errors import ConfigError, DataError, NotApplicableError
from mvcore.losses import multiset_correlation
from mvcore.models import Autoencoder
from mvcore.testing import LinearGaussian, StopAfter, all_patterns, small

SIZES = {"a": 5, "b": 6, "c": 4}
EACH = pytest.mark.parametrize("reconstruct", ["every", "own"])


@pytest.fixture
def world() -> LinearGaussian:
    return LinearGaussian(SIZES, 2)


@pytest.fixture
def batch(world: LinearGaussian) -> mvcore.Batch:
    return world.sample(70, observed=all_patterns(3).repeat(10, 1))


def make(schema: Schema, **fields: object) -> Autoencoder:
    model = small("dccae", schema, **fields)
    assert isinstance(model, Autoencoder)
    return model


def linear(schema: Schema, **fields: object) -> Autoencoder:
    """Linear encoders and decoders."""
    flat = {f"modalities.{m}.{part}.hidden": [] for m in schema.names for part in ("encoder", "decoder")}
    return make(schema, **flat, **fields)


def descend(model: Autoencoder, batch: mvcore.Batch) -> None:
    """To a minimum of the loss, by a quasi-Newton search."""
    search = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = model(batch).loss
        loss.backward()
        return loss

    search.step(closure)


def correlation(model: Autoencoder, batch: mvcore.Batch) -> float:
    with torch.no_grad():
        return float(multiset_correlation(model.encode_modalities(batch).experts, batch, ridge=1e-12))


# The objective


@EACH
def test_loss_is_the_reconstruction_less_the_correlation_of_the_codes(
    world: LinearGaussian, batch: mvcore.Batch, reconstruct: str
) -> None:
    weights = {"modalities.a.weight": 2.0}
    model = make(world.schema, reconstruct=reconstruct, correlation=7.0, ridge=0.01, **weights)
    output = model(batch)
    codes = model.encode_modalities(batch).experts
    total = torch.zeros((), dtype=torch.float64)
    for row in range(70):
        have = [m for m in SIZES if batch.column(m)[row]]
        for m in have:
            x = batch.select(torch.tensor([row])).x[m]
            sources = [m] if reconstruct == "own" else have
            own = [codes[n][int(batch.column(n)[:row].sum())][None, None] for n in sources]
            scores = [model.decode({"shared": z}, m).log_prob(x)[0, 0] for z in own]
            total = total - (2.0 if m == "a" else 1.0) * torch.stack(scores).mean() / 70
    agreement = multiset_correlation(codes, batch, ridge=0.01)
    torch.testing.assert_close(output.loss, total - 7.0 * agreement)
    torch.testing.assert_close(output.terms["correlation"], (-7.0 * agreement).detach())
    torch.testing.assert_close(sum(output.terms.values()), output.loss.detach())


def test_without_the_correlation_it_is_an_autoencoder_of_each_modality(
    world: LinearGaussian, batch: mvcore.Batch
) -> None:
    """Linear ones span the principal components: what is left is the sum of the other eigenvalues."""
    model = linear(world.schema, reconstruct="own", correlation=0.0)
    descend(model, batch)
    with torch.no_grad():
        loss = float(model(batch).loss)
    expected = 0.0
    for m in SIZES:
        x = batch.x[m].numpy()
        values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
        expected += len(x) / 70 * (0.5 * values[2:].sum() + 0.5 * x.shape[1] * np.log(2 * np.pi))
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_with_all_the_weight_on_it_linear_encoders_find_classical_cca(
    world: LinearGaussian, names: tuple[str, ...]
) -> None:
    """λ → ∞, complete rows: the sum over the D greatest eigenvalues that numpy finds between the observations."""
    batch = world.sample(80).only(names)
    model = linear(Schema(tuple(world.schema[m] for m in names)), correlation=1e6, ridge=1e-9)
    assert correlation(model, batch) < (expected := gcca([x.numpy() for x in batch.x.values()], 2)) - 0.05
    descend(model, batch)
    assert correlation(model, batch) == pytest.approx(expected, abs=1e-4)


def gcca(tables: list[np.ndarray], top: int) -> float:
    """Σ (ρ − 1) / (M − 1) over the greatest eigenvalues of Σ_m P_m, the projections on the span of each table."""
    bases = [np.linalg.qr(t - t.mean(0))[0] for t in tables]
    values = np.linalg.eigvalsh(sum(q @ q.T for q in bases))[::-1]
    return float((values[:top] - 1).sum() / (len(tables) - 1))


def test_partial_rows_find_the_cca_of_the_rows_that_have_both(world: LinearGaussian) -> None:
    observed = torch.tensor([[True, True]]).repeat(90, 1)
    observed[60:75, 0] = observed[75:, 1] = False
    schema = Schema(tuple(world.schema[m] for m in ("a", "b")))
    whole = world.sample(90).only(["a", "b"])
    batch = whole.keep(observed)
    model = linear(schema, correlation=1e6, ridge=1e-9)
    descend(model, batch)
    expected = gcca([x[:60].numpy() for x in whole.x.values()], 2)
    assert correlation(model, batch) == pytest.approx(expected, abs=1e-4)


def test_invertible_maps_of_a_code_leave_its_correlation_as_it_is(world: LinearGaussian, batch: mvcore.Batch) -> None:
    """And a decoder that undoes them its own reconstruction, so that the paper's codes agree up to such a map only."""
    model = linear(world.schema, reconstruct="own", correlation=5.0, ridge=1e-12)
    with torch.no_grad():
        before = model(batch).loss
        A, b = torch.randn(2, 2).double() + 2 * torch.eye(2), torch.randn(2).double()
        head, body = model.encoders["a"].head.linear, model.decoders["a"].network.body[0]
        head.weight[:2], head.bias[:2] = A @ head.weight[:2], A @ head.bias[:2] + b
        body.bias -= body.weight @ torch.linalg.solve(A, b)
        body.weight.copy_(body.weight @ torch.linalg.inv(A))
        torch.testing.assert_close(model(batch).loss, before)


# Partial rows


@EACH
def test_a_row_with_one_modality_trains_that_autoencoder_alone(world: LinearGaussian, reconstruct: str) -> None:
    batch, model = world.sample(8).only(["b"]), make(world.schema, reconstruct=reconstruct)
    model(batch).loss.backward()
    reached = {n.split(".")[1] for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"b"}


def test_rows_that_share_no_modalities_are_refused(world: LinearGaussian) -> None:
    data = MultimodalDataset.from_batch(world.schema, world.sample(30, observed=torch.eye(3).bool().repeat(10, 1)))
    with pytest.raises(DataError, match="No two of a, b, c are together in more than 3 of 30 rows"):
        mvcore.fit(make(world.schema), data, epochs=1, progress=False)
    mvcore.fit(make(world.schema, correlation=0.0).float(), single(data), epochs=1, progress=False)


# No density


def test_it_has_no_likelihood_and_generates_from_a_fitted_sampler(
    world: LinearGaussian, batch: mvcore.Batch, tmp_path: Path
) -> None:
    model, data = make(world.schema), MultimodalDataset.from_batch(world.schema, batch)
    with pytest.raises(NotApplicableError, match="no density"):
        model.log_likelihood(batch)
    with pytest.raises(NotApplicableError, match="no prior"):
        model.generate(3)
    mvcore.fit_sampler(model, data, {"use": "gaussian_mixture", "components": 2})
    again = mvcore.load(mvcore.save(model, tmp_path / "model"))
    assert torch.equal(again.generate(3)["a"], model.generate(3)["a"])


def test_the_command_line_says_so(world: LinearGaussian, batch: mvcore.Batch, tmp_path: Path) -> None:
    model, data = make(world.schema), MultimodalDataset.from_batch(world.schema, batch)
    folder = mvcore.save(model, tmp_path / "model")
    failed = CliRunner().invoke(main, ["sample", str(folder), "--out", str(tmp_path / "out")])
    assert failed.exit_code == 1
    assert "This model has no prior" in failed.output
    assert not (tmp_path / "out").exists()
    mvcore.fit_sampler(model, data, {"use": "gaussian_mixture", "components": 2})
    folder = mvcore.save(model, tmp_path / "fitted")
    done = CliRunner().invoke(main, ["sample", str(folder), "--n", "4", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert np.load(tmp_path / "out" / "a.npy").shape == (4, 5)


# Training


def single(data: MultimodalDataset) -> MultimodalDataset:
    """The data in float32."""
    batch = data.batch()
    return MultimodalDataset.from_batch(
        data.schema, mvcore.Batch({m: x.float() for m, x in batch.x.items()}, batch.observed)
    )


@pytest.mark.parametrize("steps", [3, 8])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    world: LinearGaussian, batch: mvcore.Batch, tmp_path: Path, steps: int
) -> None:
    data = single(MultimodalDataset.from_batch(world.schema, batch))
    options = {"epochs": 3, "batch_size": 20, "progress": False, "hooks": False}
    through = mvcore.fit(make(world.schema).float(), data, **options).model.state_dict()
    kept = {**options, "checkpoint": tmp_path, "checkpoint_steps": 1}
    stop = StopAfter(steps - 1, mvcore.StopTraining)
    assert mvcore.fit(make(world.schema).float(), data, **kept, callbacks=[stop]).stopped
    again = mvcore.fit(make(world.schema).float(), data, **kept, resume=True).model.state_dict()
    assert all(torch.equal(again[k], v) for k, v in through.items())


def test_what_modalities_share_is_found_where_they_vary_more_by_themselves() -> None:
    """On partial rows: autoencoders see the greatest variances, of which each modality has two of its own."""
    torch.manual_seed(4)
    n, observed = 900, all_patterns(3).repeat(100, 1)[:700]
    shared, x = torch.randn(n, 2).double(), {}
    for m in SIZES:
        own = torch.cat([3 * torch.randn(n, 2), shared + 0.3 * torch.randn(n, 2)], 1)
        x[m] = own @ torch.linalg.qr(torch.randn(4, 4).double())[0]
    train = mvcore.Batch({m: x[m][:700][observed[:, i]] for i, m in enumerate(SIZES)}, observed)
    held_out, reached = mvcore.Batch.from_dense({m: v[700:] for m, v in x.items()}), []
    for weight in (0.0, 100.0):
        model = linear(Schema.from_shapes(dict.fromkeys(SIZES, (4,))), reconstruct="own", correlation=weight)
        descend(model, train)
        reached.append(correlation(model, held_out))
    # of each shared variable a modality has 1 / 1.09 of its variance, and so has each pair of them as its correlation
    assert reached[1] == pytest.approx(2 / 1.09, abs=0.1)
    assert reached[0] < 0.5


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"correlation": -1.0}, "correlation must be 0 or greater"), ({"ridge": 0.0}, "ridge must be greater than 0"),
     ({"reconstruct": "all"}, "reconstruct")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(
    world: LinearGaussian, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make(world.schema, **fields)
