"""What holds for every model."""

from mvcore.testing import LossSuite, ModelSuite


class TestCRMVAE(ModelSuite):
    component = "mvcore-crmvae:crmvae"
    configs = ({}, {"latent_dim": 3, "loss.halved": True, "loss.beta": 2.5, "loss.samples": 2})


class TestCRMVAELoss(LossSuite):
    component = "mvcore-crmvae:crmvae"
    configs = ({}, {"halved": True})
