import pickle

import pytest

from mvcore import errors as e


@pytest.mark.parametrize(
    "error",
    [
        e.UnknownComponentError("model", "mopo", ["mopoe"]),
        e.AmbiguousComponentError("model", "mopoe", ["a:mopoe", "b:mopoe"]),
        e.BrokenPluginError("a:mopoe", "1.0", "a:spec", "no"),
        e.MissingPluginError({"a>=1": None, "b>=2": "1.0"}, ["b>=2"]),
        e.ConfigError(["a: no", "b: no"], "model"),
        e.DataError("no", modality="image"),
        e.ModelFileError("no"),
        e.HubError("no", address="hf://ann/model"),
        e.NotFittedError("no", what="sampler"),
        e.NotPackagedError("a.B", "mvcore.loss"),
    ],
)
def test_an_error_crosses_a_process_boundary_whole(error: e.MvcoreError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_text_of_a_config_error() -> None:
    assert str(e.ConfigError(["a: no", "b: no"], "model")) == "2 problems in model\n  a: no\n  b: no"
    assert str(e.ConfigError(["a: no"])) == "1 problem in config\n  a: no"
