"""What holds for every model."""

from mvcore.testing.suites import ModelSuite


class TestExample(ModelSuite):
    component = "mvcore-example:example"
    configs = ({}, {"posterior.subsets": "all", "loss.stratified": True})
