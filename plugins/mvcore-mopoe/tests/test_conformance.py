"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestMoPoE(ModelSuite):
    component = "mvcore-mopoe:mopoe"
    configs = (
        {"loss.stratified": True},
        {"latent_dim": 3, "posterior.prior_expert": "every", "private_dim": 2, "loss.stratified": True},
    )


class TestMoPoEWithThePriorInTheFullSubset(ModelSuite):
    component = "mvcore-mopoe:mopoe"
    configs = ({"posterior.prior_expert": "full", "loss.samples": 2, "loss.stratified": True},)
    expected_failures = {  # noqa: RUF012
        "test_submodels": "the full subset, which alone has the prior, is another one in a model of fewer modalities",
    }
