"""What holds for every model, and what does not for DCCAE."""

from mvcore.testing import ModelSuite


class TestDCCAE(ModelSuite):
    component = "mvcore-dccae:dccae"
    configs = ({}, {"latent_dim": 1, "reconstruct": "own", "ridge": 1e-3})
    expected_failures = {"test_neighbours": "a correlation is one of a batch, no mean over rows"}  # noqa: RUF012


class TestAutoencoders(ModelSuite):
    component = "mvcore-dccae:dccae"
    configs = ({"correlation": 0.0}, {"correlation": 0.0, "latent_dim": 3, "reconstruct": "own"})
