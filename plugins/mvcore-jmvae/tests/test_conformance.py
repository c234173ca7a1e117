"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestJMVAE(ModelSuite):
    component = "mvcore-jmvae:jmvae"
    configs = ({"joint_hidden": [8]}, {"joint_hidden": [8], "latent_dim": 3, "subsets": "product", "alpha": 1.0})
    expected_failures = {  # noqa: RUF012
        "test_submodels": "the joint encoder's widths depend on all modalities",
        "test_order": "the joint encoder's first layer has the modalities side by side, in their order",
    }
