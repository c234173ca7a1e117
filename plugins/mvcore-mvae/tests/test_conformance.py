"""What holds for every model."""

from mvcore.testing import LossSuite, ModelSuite


class TestMVAE(ModelSuite):
    component = "mvcore-mvae:mvae"
    configs = ({}, {"latent_dim": 3, "loss.unimodal": False, "loss.beta": 2.0, "posterior.prior_expert": "none"})


class TestMVAELoss(LossSuite):
    component = "mvcore-mvae:mvae"
    configs = ({}, {"subsets": 2})
