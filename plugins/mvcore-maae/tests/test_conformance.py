"""What holds for every model, and what does not for mWAE."""

from mvcore.testing import ModelSuite


class TestMAAE(ModelSuite):
    component = "mvcore-maae:maae"
    configs = ({"discriminator_hidden": [8]}, {"discriminator_hidden": [6, 5], "latent_dim": 3, "matching": 5.0})


class TestMWAE(ModelSuite):
    component = "mvcore-maae:mwae"
    configs = ({}, {"latent_dim": 3, "scales": [1.0], "matching": 100.0})
    expected_failures = {"test_neighbours": "a discrepancy is one of a batch, no mean over rows"}  # noqa: RUF012


class TestAE(ModelSuite):
    component = "mvcore-maae:mwae"
    configs = ({"matching": 0.0}, {"matching": 0.0, "latent_dim": 1})
