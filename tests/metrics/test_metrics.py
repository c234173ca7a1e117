"""Metrics of exact models against their closed forms, on partial rows."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import mvcore
from mvcore.data.batch import Batch
from mvcore.errors import DataError, NotApplicableError
from mvcore.evaluation.evaluation import Evaluation
from mvcore.inference.estimators import log_likelihood
from mvcore.metrics.clustering import Clustering, matched_accuracy
from mvcore.metrics.coherence import Coherence
from mvcore.metrics.conditional_log_likelihood import ConditionalLogLikelihood
from mvcore.metrics.imputation import Hidden, Imputation
from mvcore.metrics.interval_coverage import IntervalCoverage
from mvcore.metrics.linear_probe import LinearProbe
from mvcore.metrics.log_likelihood import LogLikelihood
from mvcore.metrics.reconstruction import Reconstruction, psnr
from mvcore.metrics.similarity import ssim
from mvcore.models.multimodal import MultimodalVAE
from mvcore.testing.checks import all_patterns
from mvcore.testing.linear import LinearGaussian


def data_of(batch: Batch, fill: float = math.nan, labels: Any = None) -> mvcore.MultimodalDataset:
    """A data set of the batch's rows; what a row does not have is ``fill``."""
    arrays, masks = {}, {}
    for m in batch.names:
        masks[m] = batch.column(m).numpy()
        arrays[m] = np.full((len(batch), *batch.x[m].shape[1:]), fill)
        arrays[m][masks[m]] = batch.x[m].numpy()
    return mvcore.MultimodalDataset(arrays, masks, labels=labels)


def true_latents(world: LinearGaussian, n: int, seed: int = 1) -> torch.Tensor:
    """The z that ``world.sample`` draws first."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, world.latent_dim, dtype=torch.float64, generator=generator)


@pytest.fixture
def exact(world: LinearGaussian, compose: Callable[..., MultimodalVAE]) -> MultimodalVAE:
    """The model whose posterior of every subset is the true one."""
    return compose(world, experts="likelihood", prior_expert="every").float()


@pytest.fixture
def rows(world: LinearGaussian) -> Batch:
    """Rows of every pattern, six of each."""
    return world.sample(42, observed=all_patterns(3).repeat(6, 1))


def test_log_likelihood_is_the_closed_form(world: LinearGaussian, exact: MultimodalVAE, rows: Batch) -> None:
    values = LogLikelihood(K=2)(Evaluation(exact, data_of(rows)))
    truth = world.log_likelihood(rows)
    assert values["log_likelihood"] == pytest.approx(float(truth.mean()), abs=1e-3)
    counts = rows.observed.sum(1)
    for n in (1, 2, 3):
        assert values[f"log_likelihood/{n}_modalities"] == pytest.approx(float(truth[counts == n].mean()), abs=1e-3)


def test_conditional_log_likelihoods_are_the_closed_form(
    world: LinearGaussian, exact: MultimodalVAE, rows: Batch
) -> None:
    values = ConditionalLogLikelihood(K=4000)(Evaluation(exact, data_of(rows)))
    for m in rows.names:
        others = [n for n in rows.names if n != m]
        scored = rows.column(m) & rows.only(others).observed.any(1)
        truth = (world.log_likelihood(rows) - world.log_likelihood(rows, others))[scored].mean()
        assert values[f"conditional_log_likelihood/{m}/ratio"] == pytest.approx(float(truth), abs=1e-3)
        for kind in ("predictive", "reweighted"):
            assert values[f"conditional_log_likelihood/{m}/{kind}"] == pytest.approx(float(truth), abs=0.05)


def test_likelihoods_of_a_data_set_are_those_of_its_rows_whatever_the_batches(
    exact: MultimodalVAE, rows: Batch
) -> None:
    # the estimates of the exact model have no noise: log p of what a row has, and the ratio of two of them
    evaluations = [Evaluation(exact, data_of(rows), batch_size=size) for size in (1, 5, 100)]
    for metric in (LogLikelihood(K=2), ConditionalLogLikelihood(K=2, estimators=("ratio",))):
        one, some, all_at_once = (metric(e) for e in evaluations)
        assert one == pytest.approx(all_at_once, abs=1e-4)
        assert some == pytest.approx(all_at_once, abs=1e-4)


def test_intervals_of_the_exact_model_cover_what_they_say(world: LinearGaussian, exact: MultimodalVAE) -> None:
    observed = all_patterns(3)[torch.randint(7, (900,))]
    e = Evaluation(exact, data_of(world.sample(900, observed=observed)))
    values = IntervalCoverage(levels=(0.5, 0.9), draws=199)(e)
    for i, m in enumerate(world.schema.names):
        n = int((observed[:, i] & (observed.sum(1) > 1)).sum())
        for level in (0.5, 0.9):  # values of one row hang together, so count rows
            bound = 4 * math.sqrt(level * (1 - level) / n)
            assert values[f"interval_coverage/{m}/{level}"] == pytest.approx(level, abs=bound)


def test_imputation_reaches_the_analytic_r2(world: LinearGaussian, exact: MultimodalVAE) -> None:
    train, test = data_of(world.sample(200, seed=3)), data_of(world.sample(4000))
    values = Imputation(K=200, baselines=False)(Evaluation(exact, test, train))
    for m in world.schema.names:
        known = train.batch().x[m]
        scale = (known.max(0).values - known.min(0).values).double()
        precision = 1 + sum(world.precision(n) for n in world.schema.names if n != m)
        noise = world.sigma[m] ** 2
        left = (world.W[m].square() @ (1 / precision) + noise) / scale**2
        total = (world.W[m].square().sum(1) + noise) / scale**2
        assert values[f"imputation/{m}"] == pytest.approx(float(1 - left.sum() / total.sum()), abs=0.03)


def test_imputation_scores_each_pattern_of_the_others(world: LinearGaussian, exact: MultimodalVAE, rows: Batch) -> None:
    train = data_of(world.sample(50, seed=3))
    values = Imputation(min_rows=6)(Evaluation(exact, data_of(rows), train))
    names = {key for key in values if key.startswith("imputation/a/given/")}
    assert names == {"imputation/a/given/b", "imputation/a/given/c", "imputation/a/given/b+c"}
    assert values["imputation/a/mean"] == 0
    assert not any("given" in key for key in Imputation(min_rows=7)(Evaluation(exact, data_of(rows), train)))


def test_unknown_cells_are_not_scored() -> None:
    y = np.array([[0.0, 0.0], [2.0, 100.0], [1.0, 0.0]])
    cells = np.array([[True, True], [True, True], [True, False]])
    data = mvcore.MultimodalDataset({"x": np.zeros((3, 1)), "y": y}, cells={"y": cells})
    task = Hidden(data.select([0, 1]), data.select([2]), "y")
    # means 1 and 50, ranges 2 and 100; the one known value is its mean, and what is predicted for the other is not read
    shifted = Hidden(data.select([0, 1]), data.select([0]), "y")
    assert shifted.score(np.array([[1.0, 0.0]])) == pytest.approx(1 - 0.25 / 0.5)
    assert math.isnan(task.score(np.array([[1.0, 1e9]])))


def test_reconstruction_error_is_that_of_the_posterior_mean(
    world: LinearGaussian, exact: MultimodalVAE, rows: Batch
) -> None:
    values = Reconstruction(K=5000)(Evaluation(exact, data_of(rows)))
    loc = world.posterior(rows).loc
    for m in rows.names:
        error = rows.x[m] - world.b[m] - loc[rows.rows(m)] @ world.W[m].T
        assert values[f"reconstruction/{m}/mse"] == pytest.approx(float(error.square().mean()), rel=0.02)


def test_psnr_by_hand() -> None:
    x, y = torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.1)
    y[1] = 0.01
    torch.testing.assert_close(psnr(x, y, data_range=1.0), torch.tensor([20.0, 40.0], dtype=torch.float64))


def test_ssim_of_constant_images_by_hand() -> None:
    x, y = torch.full((1, 3, 12, 13), 0.5), torch.full((1, 3, 12, 13), 1.0)
    c1 = 0.01**2  # no variance, so the second factor is 1
    assert float(ssim(x, y, data_range=1.0)) == pytest.approx((2 * 0.5 + c1) / (1.25 + c1), rel=1e-6)


def test_ssim_is_that_of_scipys_gaussian_filter() -> None:
    x = torch.rand(2, 1, 20, 16, dtype=torch.float64)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)

    def blur(image: Any) -> Any:
        return gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]  # radius 5, where it lies inside

    for i in range(2):
        a, b = x[i, 0].numpy(), y[i, 0].numpy()
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        c1, c2 = 0.02**2, 0.06**2
        expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
        assert float(ssim(x, y, data_range=2.0)[i]) == pytest.approx(expected.mean(), rel=1e-9)
    torch.testing.assert_close(ssim(x, x, data_range=1.0), torch.ones(2, dtype=torch.float64))


def test_coherence_of_constant_classifiers_by_hand(world: LinearGaussian, exact: MultimodalVAE) -> None:
    # ten rows with a alone, thirty with all; classes x, y; a and c are always called x, b always y
    observed = torch.tensor([[True, False, False]] * 10 + [[True, True, True]] * 30)
    labels = np.array(["x"] * 10 + ["x"] * 15 + ["y"] * 15)
    logits = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [1.0, 0.0]}
    classifiers = {m: lambda x, row=row: torch.tensor(row).expand(len(x), 2) for m, row in logits.items()}
    test = data_of(world.sample(40, observed=observed), labels=labels)
    e = Evaluation(exact, test, resources={"classifiers": classifiers}, batch_size=16)
    values = Coherence(draws=50)(e)
    # given a: 40 rows, b right in 15, c right in 25; given b: a and c right in 15 of 30; given c: a 15, b 15 of 30
    assert values["coherence/1_inputs"] == pytest.approx((15 + 25 + 15 + 15 + 15 + 15) / (80 + 60 + 60))
    assert values["coherence/2_inputs"] == pytest.approx(0.5)
    # to b: given a (15 of 40), c (15 of 30), a and c (15 of 30)
    assert values["coherence/to/b"] == pytest.approx(45 / 100)
    # given a: b and c never agree (40 rows); given b: a and c always (30); given c: a and b never (30)
    assert values["coherence/agreement/1_inputs"] == pytest.approx(30 / 100)
    assert "coherence/agreement/2_inputs" not in values
    assert values["coherence/unconditional"] == 0
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert values["coherence/unconditional/entropy"] == pytest.approx(entropy)
    assert (values["coherence/random"], values["coherence/unconditional/random"]) == (1 / 2, 1 / 4)
    macro = Coherence(draws=5, average="macro")(e)
    assert macro["coherence/to/b"] == pytest.approx((15 / 40 + 0.5 + 0.5) / 3)


def test_targets_come_from_one_draw_and_are_right_as_often_as_exchangeable_draws(
    world: LinearGaussian, exact: MultimodalVAE
) -> None:
    def classify(m: str) -> Callable[[torch.Tensor], torch.Tensor]:
        back = torch.linalg.pinv(world.W[m])
        return lambda x: (((x.double() - world.b[m]) @ back.T)[:, 0] > 0).long()

    n = 3000
    test = data_of(world.sample(n), labels=(true_latents(world, n)[:, 0] > 0).long().numpy())
    classifiers = {m: classify(m) for m in world.schema.names}
    values = Coherence(sizes=(1,))(Evaluation(exact, test, resources={"classifiers": classifiers}))
    assert values["coherence/agreement/1_inputs"] == 1  # by one z each, though every posterior is wide
    assert values["coherence/unconditional"] == 1
    assert values["coherence/unconditional/entropy"] == pytest.approx(math.log(2), abs=0.01)
    # z and a draw of its posterior are normal with correlation 1 − posterior variance; Sheppard's formula for signs
    each = [0.5 + math.asin(1 - float(1 / (1 + world.precision(m)[0]))) / math.pi for m in world.schema.names]
    assert values["coherence/1_inputs"] == pytest.approx(sum(each) / 3, abs=4 * 0.5 / math.sqrt(n))


def test_coherence_refuses_what_is_no_classifier(world: LinearGaussian, exact: MultimodalVAE) -> None:
    test = data_of(world.sample(6), labels=np.arange(6) % 2)
    with pytest.raises(NotApplicableError, match="classifiers"):
        Coherence()(Evaluation(exact, test))
    for classifiers, match in [
        ({"d": len}, "'d'"),
        ({"a": lambda x: x[:, :1]}, r"'a' gave \(6, 1\)"),
    ]:
        with pytest.raises(DataError, match=match):
            Coherence()(Evaluation(exact, test, resources={"classifiers": classifiers}))


def test_the_best_match_of_clusters_by_hand() -> None:
    assert matched_accuracy(np.array(list("aabb")), np.array([7, 7, 3, 3])) == 1
    assert matched_accuracy(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])) == pytest.approx(5 / 6)
    assert matched_accuracy(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])) == 1 / 2


def test_separated_clusters_score_one_whatever_they_are_called(world: LinearGaussian, exact: MultimodalVAE) -> None:
    classes = torch.arange(30) % 2
    z = torch.tensor([[20.0, 20.0], [-20.0, -20.0]], dtype=torch.float64)[classes]
    observed = all_patterns(3).repeat(5, 1)[:30]
    batch = Batch.from_dense(
        {m: z @ world.W[m].T + world.b[m] for m in world.schema.names},
        {m: observed[:, i] for i, m in enumerate(world.schema.names)},
    )
    for names in ([0, 1], [9, 2]):
        test = data_of(batch, labels=np.array(names)[classes.numpy()])
        values = Clustering()(Evaluation(exact, test))
        assert values == pytest.approx({f"clustering/{score}": 1.0 for score in ("accuracy", "nmi", "ari")})
    one = Evaluation(exact, test, resources={"clusters": lambda view: torch.zeros(len(view.batch))})
    values = Clustering(clusters="resource")(one)
    assert values == pytest.approx({"clustering/accuracy": 1 / 2, "clustering/nmi": 0, "clustering/ari": 0})


def test_the_probe_counts_the_rows_that_have_all_of_a_subset(world: LinearGaussian, exact: MultimodalVAE) -> None:
    """Labels that the embedding tells in rows with all, and that are turned round in rows with a alone."""
    n = 60
    sign = torch.where(torch.arange(n) % 2 == 0, 30.0, -30.0).double()
    z = torch.stack([sign, torch.randn(n, dtype=torch.float64)], 1)
    x = {m: z @ world.W[m].T + world.b[m] for m in world.schema.names}
    labels = (sign > 0).numpy()
    train = data_of(Batch.from_dense(x), labels=labels)
    alone = torch.arange(n) < 20
    batch = Batch.from_dense(x, {"a": torch.ones(n, dtype=torch.bool), "b": ~alone, "c": ~alone})
    test = data_of(batch, labels=np.where(alone.numpy(), ~labels, labels))
    values = LinearProbe()(Evaluation(exact, test, train))
    assert values["linear_probe/observed"] == pytest.approx(40 / 60)
    assert values["linear_probe/given/a"] == pytest.approx(40 / 60)
    assert values["linear_probe/given/b"] == 1
    assert values["linear_probe/1_inputs"] == pytest.approx((40 + 40 + 40) / (60 + 40 + 40))
    assert values["linear_probe/3_inputs"] == 1


def test_conditional_log_likelihoods_share_their_draws_and_are_what_each_is_alone(
    world: LinearGaussian, compose: Callable[..., MultimodalVAE], rows: Batch
) -> None:
    model, data = compose(world).float(), data_of(rows)
    found = ConditionalLogLikelihood(K=5)(Evaluation(model, data))
    for estimator in ("predictive", "reweighted"):
        alone = ConditionalLogLikelihood(K=5, estimators=(estimator,))(Evaluation(model, data))  # type: ignore[arg-type]
        assert alone == {name: value for name, value in found.items() if name.endswith(estimator)}
    e = Evaluation(model, data)
    whole = torch.cat(e.log_likelihoods(5))
    for m in e.names:
        given = [name for name in e.names if name != m]
        others = torch.cat(e.map(lambda view, _: log_likelihood(model, view.batch, view, 5), given))
        use = rows.column(m) & rows.without([m]).observed.any(1)
        ratio = float((whole - others)[use].mean())  # log p(both) − log p(the others)
        assert found[f"conditional_log_likelihood/{m}/ratio"] == pytest.approx(ratio, rel=1e-5)


def test_conditional_log_likelihoods_decode_each_modality_once_for_each_target_and_once_for_all(
    exact: MultimodalVAE, world: LinearGaussian
) -> None:
    """Of three modalities 3 · 3 + 3 = 12 decodings of a draw, where each estimate alone would take 27."""
    rows, decoded = world.sample(10), []
    for decoder in exact.decoders.values():
        decoder.register_forward_hook(lambda _, inputs, __: decoded.append(inputs[0].shape[:2].numel()))
    mvcore.evaluate(exact, data_of(rows), metrics=["log_likelihood", "conditional_log_likelihood"], K=4, progress=False)
    assert sum(decoded) == 12 * 10 * 4


def test_a_bar_names_the_metric_at_work(exact: MultimodalVAE, rows: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    mvcore.evaluate(exact, data_of(rows), metrics=["log_likelihood"], K=2, batch_size=21, progress=False)
    assert capsys.readouterr().err == ""
    mvcore.evaluate(exact, data_of(rows), metrics=["log_likelihood"], K=2, batch_size=21)
    shown = capsys.readouterr().err
    assert "log_likelihood" in shown
    assert "1/1" in shown
    with pytest.raises(DataError, match="progress must be True or False; got 'no'"):
        mvcore.evaluate(exact, data_of(rows), progress="no")  # type: ignore[arg-type]
