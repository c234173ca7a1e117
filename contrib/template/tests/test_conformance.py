"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestExample(ModelSuite):
    component = "mvcore-example:example"
    configs = ({}, {"posterior.subsets": "all", "loss.stratified": True})
