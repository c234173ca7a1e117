"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestMMVAE(ModelSuite):
    component = "mvcore-mmvae:mmvae"
    configs = ({"loss.samples": 3}, {"latent_dim": 3, "loss": "iwae", "loss.samples": 2})
