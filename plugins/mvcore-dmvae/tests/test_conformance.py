"""What holds for every model."""

from mvcore.testing import LossSuite, ModelSuite


class TestDMVAE(ModelSuite):
    component = "mvcore-dmvae:dmvae"
    configs = ({"private_dim": 2}, {"private_dim": 1, "loss.shared_kl": "elbo", "loss.beta": 2.0, "loss.samples": 2})


class TestDMVAELoss(LossSuite):
    component = "mvcore-dmvae:dmvae"
    configs = ({}, {"shared_kl": "elbo", "beta_private": 0.5})
