"""What holds for every model, and what does not for JNF."""

from mvcore.testing import ModelSuite

SMALL = {"joint_hidden": [8], "flow.hidden": [8], "hmc.steps": 4, "hmc.adapt": 2, "hmc.leapfrog": 2}


class TestJNFOnEmbeddings(ModelSuite):
    component = "mvcore-jnf:jnf"
    configs = (
        {**SMALL, "dcca": {"dimensions": 2, "hidden": [8]}},
        {**SMALL, "dcca": {"dimensions": 2, "hidden": [8], "share": 0.5}, "flow.kind": "coupling"},
    )
    expected_failures = {  # noqa: RUF012
        "test_submodels": "the joint encoder's widths depend on all modalities",
        "test_order": "the joint encoder's first layer has the modalities side by side, in their order",
        "test_neighbours": "a correlation is one of a batch, no mean over rows",
    }


class TestJNF(ModelSuite):
    component = "mvcore-jnf:jnf"
    configs = (SMALL, {**SMALL, "latent_dim": 3, "flow.kind": "coupling", "hmc.thin": 3})
    expected_failures = {  # noqa: RUF012
        "test_submodels": "the joint encoder's widths depend on all modalities",
        "test_order": "the joint encoder's first layer has the modalities side by side, in their order",
    }
