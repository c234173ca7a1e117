"""What holds for every model."""

from mvcore.testing import LossSuite, ModelSuite


class TestMMVAEPlus(ModelSuite):
    component = "mvcore-mmvaeplus:mmvaeplus"
    configs = ({"private_dim": 2}, {"private_dim": 2, "loss.estimator": "dreg", "loss.samples": 3})


class TestMMVAEPlusLoss(LossSuite):
    component = "mvcore-mmvaeplus:mmvaeplus"
    configs = ({}, {"samples": 3, "estimator": "dreg"})
