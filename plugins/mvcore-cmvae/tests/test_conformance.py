"""What holds for every model and every prior."""

from mvcore.testing import ModelSuite, PriorSuite


class TestCMVAE(ModelSuite):
    component = "mvcore-cmvae:cmvae"
    configs = (
        {"private_dim": 2, "prior.clusters": 3},
        {"private_dim": 2, "prior.clusters": 4, "prior.learn_scale": True, "loss.estimator": "dreg", "loss.samples": 3},
        {"private_dim": 2, "prior.clusters": 1, "prior.learn_scale": True},
    )


class TestClusters(PriorSuite):
    component = "mvcore-cmvae:clusters"
    configs = (
        {"clusters": 5},
        {"clusters": 3, "family": "laplace", "learn_scale": True, "scale": "softmax"},
        {"clusters": 1},
    )
