"""What holds for every model."""

from mvcore.testing import LossSuite, ModelSuite


class TestMVTCAE(ModelSuite):
    component = "mvcore-mvtcae:mvtcae"
    configs = ({}, {"latent_dim": 3, "loss.alpha": 0.8, "loss.samples": 3, "private_dim": 2})


class TestMVTCAELoss(LossSuite):
    component = "mvcore-mvtcae:mvtcae"
    configs = ({}, {"alpha": 0.5})
