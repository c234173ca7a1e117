"""What authors of plugins test with: models whose exact answers are known, and checks that hold for every model."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.testing._repos import HubCommit as HubCommit, HubRepo as HubRepo
    from mvcore.testing.checks import (
        all_patterns as all_patterns,
        check_conditions_on_every_subset as check_conditions_on_every_subset,
        check_leaves_state_alone as check_leaves_state_alone,
        check_neighbours as check_neighbours,
        check_no_rows as check_no_rows,
        check_submodels as check_submodels,
    )
    from mvcore.testing.hub import StandInHub as StandInHub
    from mvcore.testing.interruption import StopAfter as StopAfter
    from mvcore.testing.linear import LinearGaussian as LinearGaussian
    from mvcore.testing.noise import fixed_noise as fixed_noise, sigma_points as sigma_points
    from mvcore.testing.small_models import small as small
    from mvcore.testing.suites import (
        DatasetSuite as DatasetSuite,
        DecoderSuite as DecoderSuite,
        EncoderSuite as EncoderSuite,
        LikelihoodSuite as LikelihoodSuite,
        LossSuite as LossSuite,
        MetricSuite as MetricSuite,
        ModelSuite as ModelSuite,
        PosteriorSuite as PosteriorSuite,
        PriorSuite as PriorSuite,
        SamplerSuite as SamplerSuite,
        SuiteError as SuiteError,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "checks": (
                "all_patterns",
                "check_conditions_on_every_subset",
                "check_leaves_state_alone",
                "check_neighbours",
                "check_no_rows",
                "check_submodels",
            ),
            "_repos": ("HubCommit", "HubRepo"),
            "hub": ("StandInHub",),
            "interruption": ("StopAfter",),
            "linear": ("LinearGaussian",),
            "noise": ("fixed_noise", "sigma_points"),
            "small_models": ("small",),
            "suites": (
                "DatasetSuite",
                "DecoderSuite",
                "EncoderSuite",
                "LikelihoodSuite",
                "LossSuite",
                "MetricSuite",
                "ModelSuite",
                "PosteriorSuite",
                "PriorSuite",
                "SamplerSuite",
                "SuiteError",
            ),
        },
    )
