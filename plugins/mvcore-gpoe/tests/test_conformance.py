"""What holds for every model and every posterior."""

from mvcore.testing import ModelSuite, PosteriorSuite


class TestGPoE(ModelSuite):
    component = "mvcore-gpoe:gpoe"
    configs = (
        {},
        {"latent_dim": 3, "posterior.powers": "free", "private_dim": 2},
        {"posterior.subsets": "all", "loss.stratified": True, "private_dim": 2},
    )


class TestWeightedProduct(PosteriorSuite):
    component = "mvcore-gpoe:weighted_product"
    configs = (
        {},
        {"subsets": "all"},
        {"powers": "free"},
        {"powers": "free", "subsets": "all", "scale": "softmax"},
        {"powers": "free", "subsets": "each"},
    )
