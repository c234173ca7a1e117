"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestNexus(ModelSuite):
    component = "mvcore-nexus:nexus"
    configs = (
        {"bottom_dim": 3, "message_dim": 4, "top_hidden": [8], "dropout": 0.0},
        {"bottom_dim": 3, "message_dim": 4, "top_hidden": [8], "dropout": 0.0, "samples": 2},
    )
