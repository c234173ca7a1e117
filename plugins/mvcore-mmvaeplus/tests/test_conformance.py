"""What holds for every model."""

from mvcore.testing.suites import ModelSuite


class TestMMVAEPlus(ModelSuite):
    component = "mvcore-mmvaeplus:mmvaeplus"
    configs = ({"private_dim": 2}, {"private_dim": 2, "loss.estimator": "dreg", "loss.samples": 3})
