"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestTELBO(ModelSuite):
    component = "mvcore-telbo:telbo"
    configs = (
        {"joint_hidden": [8]},
        {"joint_hidden": [8], "stages": "one", "latent_dim": 3, "subsets": "product", "gamma": 2.0, "samples": 2},
    )
    expected_failures = {  # noqa: RUF012
        "test_submodels": "the joint encoder's widths depend on all modalities",
        "test_order": "the joint encoder's first layer has the modalities side by side, in their order",
    }
