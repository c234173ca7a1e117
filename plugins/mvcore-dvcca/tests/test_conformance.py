"""What holds for every model and every posterior, and what does not for DVCCA."""

from mvcore.testing import ModelSuite, PosteriorSuite


class TestDVCCA(ModelSuite):
    component = "mvcore-dvcca:dvcca"
    configs = ({"posterior.main": "a"}, {"posterior.main": "b", "latent_dim": 3, "private_dim": 2})
    expected_failures = {  # noqa: RUF012
        "test_submodels": "a model without the main modality is none",
        "test_covariates": "rows without the main modality have the prior, which no covariate moves",
    }


class TestMainView(PosteriorSuite):
    component = "mvcore-dvcca:main_view"
    configs = ({"main": "b"},)
    expected_failures = {"test_posterior_submodels": "a model without the main modality is none"}  # noqa: RUF012
