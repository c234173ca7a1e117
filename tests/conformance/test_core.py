"""The core's own components under the suites that authors of plugins use."""

from mvcore.testing.suites import (
    DatasetSuite,
    DecoderSuite,
    EncoderSuite,
    LikelihoodSuite,
    LossSuite,
    MetricSuite,
    ModelSuite,
    PosteriorSuite,
    PriorSuite,
    SamplerSuite,
)


class TestMultimodal(ModelSuite):
    component = "mvcore:multimodal"
    configs = ({}, {"private_dim": 2, "posterior.subsets": "all", "loss.stratified": True})


class TestMLPEncoder(EncoderSuite):
    component = "mvcore:mlp"
    configs = ({"hidden": [8]}, {"hidden": [], "activation": "tanh"})


class TestConvEncoder(EncoderSuite):
    component = "mvcore:conv"
    configs = ({"channels": [4, 4]},)


class TestConv1dEncoder(EncoderSuite):
    component = "mvcore:conv1d"
    configs = ({"channels": [4, 4]}, {})
    shapes = ((1, 1), (2, 9), (3, 32))


class TestConv1dDecoder(DecoderSuite):
    component = "mvcore:conv1d"
    configs = ({"channels": [4, 4]},)
    shapes = ((1, 1), (2, 9), (3, 32))


class TestConv3dEncoder(EncoderSuite):
    component = "mvcore:conv3d"
    configs = ({"channels": [4, 4]},)


class TestConv3dDecoder(DecoderSuite):
    component = "mvcore:conv3d"
    configs = ({"channels": [4, 4]},)
    shapes = ((1, 2, 3, 5), (2, 8, 8, 8))


class TestMLPDecoder(DecoderSuite):
    component = "mvcore:mlp"
    configs = ({"hidden": [8], "layer_norm": True}, {"hidden": []})


class TestConvDecoder(DecoderSuite):
    component = "mvcore:conv"
    configs = ({"channels": [4, 4]},)


class TestNormal(LikelihoodSuite):
    component = "mvcore:normal"
    configs = ({}, {"learn_scale": "predicted"}, {"scale": 0.3, "learn_scale": "feature"})


class TestLogNormal(LikelihoodSuite):
    component = "mvcore:log_normal"
    configs = ({"scale": 0.5}, {"scale": 0.3, "learn_scale": "feature"})


class TestLaplace(LikelihoodSuite):
    component = "mvcore:laplace"
    configs = ({}, {"learn_scale": "predicted"})


class TestBernoulli(LikelihoodSuite):
    component = "mvcore:bernoulli"


class TestCategorical(LikelihoodSuite):
    component = "mvcore:categorical"


class TestNegativeBinomial(LikelihoodSuite):
    component = "mvcore:negative_binomial"


class TestPoisson(LikelihoodSuite):
    component = "mvcore:poisson"


class TestZeroInflatedNegativeBinomial(LikelihoodSuite):
    component = "mvcore:zero_inflated_negative_binomial"


class TestStudentT(LikelihoodSuite):
    component = "mvcore:student_t"


class TestResNetEncoder(EncoderSuite):
    component = "mvcore:resnet"
    configs = ({"channels": [4, 4]},)


class TestResNetDecoder(DecoderSuite):
    component = "mvcore:resnet"
    configs = ({"channels": [4, 4]},)


class TestProduct(PosteriorSuite):
    component = "mvcore:product"
    configs = (
        {},
        {"subsets": "all", "prior_expert": "none"},
        {"subsets": "each", "prior_expert": "none", "family": "laplace", "scale": "softmax"},
    )


class TestStandardPrior(PriorSuite):
    component = "mvcore:standard"
    configs = ({}, {"family": "laplace", "learn_scale": True, "scale": "softmax"})


class TestELBO(LossSuite):
    component = "mvcore:elbo"
    configs = ({}, {"beta": 2.0, "kl": "monte_carlo", "samples": 2})


class TestIWAE(LossSuite):
    component = "mvcore:iwae"
    configs = ({"samples": 3}, {"bound": "tight"})


class TestDReG(LossSuite):
    component = "mvcore:dreg"
    configs = ({"samples": 3},)


class TestPriorSampler(SamplerSuite):
    component = "mvcore:prior"


class TestMfeat(DatasetSuite):
    component = "mvcore:mfeat"


class TestMiniACC(DatasetSuite):
    component = "mvcore:miniacc"
    configs = ({}, {"log1p": False})


class TestLogLikelihood(MetricSuite):
    component = "mvcore:log_likelihood"


class TestConditionalLogLikelihood(MetricSuite):
    component = "mvcore:conditional_log_likelihood"


class TestLinearProbe(MetricSuite):
    component = "mvcore:linear_probe"


class TestImputation(MetricSuite):
    component = "mvcore:imputation"


class TestIntervalCoverage(MetricSuite):
    component = "mvcore:interval_coverage"


class TestReconstruction(MetricSuite):
    component = "mvcore:reconstruction"


class TestCoherence(MetricSuite):
    component = "mvcore:coherence"


class TestClustering(MetricSuite):
    component = "mvcore:clustering"
