"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestMHVAE(ModelSuite):
    component = "mvcore-mhvae:mhvae"
    configs = (
        {"width": 8},
        {"width": 8, "levels": 2, "latent_dim": 3, "share_experts": False, "samples": 2, "beta": 0.5},
        {"width": 8, "levels": 1, "subsets": "sampled"},
    )
