"""What holds for every model."""

from mvcore.testing import ModelSuite


class TestCVAE(ModelSuite):
    component = "mvcore-cvae:cvae"
    configs = (
        {"main": "a", "hidden": [8], "condition_dim": 3, "encoding_dim": 4, "condition_dropout": 0.0},
        {"main": "b", "hidden": [8, 6], "condition_dim": 2, "latent_dim": 3, "samples": 2, "beta": 0.5},
        {"main": "c", "hidden": [8], "condition_dim": 0, "condition_dropout": 0.0},
    )
    expected_failures = {  # noqa: RUF012
        "test_submodels": "no model is built without the main modality; test_paper.py has it for rows with one",
    }
