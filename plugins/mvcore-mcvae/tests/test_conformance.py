"""What holds for every model and every posterior."""

from mvcore.testing import ModelSuite, PosteriorSuite

SPARSE = {"posterior": "variational_dropout", "loss": "variational_dropout"}


class TestMCVAE(ModelSuite):
    component = "mvcore-mcvae:mcvae"
    configs = ({}, SPARSE, {"latent_dim": 3, "private_dim": 2, **SPARSE})


class TestDropoutExperts(PosteriorSuite):
    component = "mvcore-mcvae:variational_dropout"
