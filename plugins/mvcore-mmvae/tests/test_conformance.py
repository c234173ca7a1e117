"""What holds for every model."""

from mvcore.testing import ModelSuite

NORMAL = {"posterior.family": "normal", "posterior.scale": "exp", "prior": "standard"}


class TestMMVAE(ModelSuite):
    component = "mvcore-mmvae:mmvae"
    configs = (
        {"loss.samples": 3},
        {"latent_dim": 3, "loss": "iwae", "loss.samples": 2, **NORMAL},
    )
