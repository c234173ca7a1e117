"""What holds for every model and every loss."""

from mvcore.testing import LossSuite, ModelSuite


class TestMMJSD(ModelSuite):
    component = "mvcore-mmjsd:mmjsd"
    configs = (
        {"loss.stratified": True},
        {"latent_dim": 3, "loss.stratified": True, "loss.reconstruct_prior": True, "private_dim": 2},
        {"loss.stratified": True, "loss.prior_weight": 0.0, "posterior.prior_expert": "every"},
    )


class TestMMJSDLoss(LossSuite):
    component = "mvcore-mmjsd:mmjsd"
    configs = ({"stratified": True}, {"stratified": True, "reconstruct_prior": True, "prior_weight": 0.5})
