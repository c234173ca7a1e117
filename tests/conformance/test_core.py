"""The core's own components under the suites that authors of plugins use."""

from mvcore.testing.suites import DecoderSuite, EncoderSuite, LikelihoodSuite, ModelSuite


class TestMultimodal(ModelSuite):
    component = "mvcore:multimodal"
    configs = ({}, {"private_dim": 2, "posterior.subsets": "all", "loss.stratified": True})


class TestMLPEncoder(EncoderSuite):
    component = "mvcore:mlp"
    configs = ({"hidden": [8]}, {"hidden": [], "activation": "tanh"})


class TestConvEncoder(EncoderSuite):
    component = "mvcore:conv"
    configs = ({"channels": [4, 4]},)


class TestMLPDecoder(DecoderSuite):
    component = "mvcore:mlp"
    configs = ({"hidden": [8], "layer_norm": True}, {"hidden": []})


class TestConvDecoder(DecoderSuite):
    component = "mvcore:conv"
    configs = ({"channels": [4, 4]},)


class TestNormal(LikelihoodSuite):
    component = "mvcore:normal"
    configs = ({}, {"learn_scale": "predicted"}, {"scale": 0.3, "learn_scale": "feature"})


class TestLaplace(LikelihoodSuite):
    component = "mvcore:laplace"
    configs = ({}, {"learn_scale": "predicted"})


class TestBernoulli(LikelihoodSuite):
    component = "mvcore:bernoulli"


class TestCategorical(LikelihoodSuite):
    component = "mvcore:categorical"


class TestNegativeBinomial(LikelihoodSuite):
    component = "mvcore:negative_binomial"
