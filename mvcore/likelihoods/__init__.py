"""Likelihoods p(x_m | z) of observations."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.likelihoods.base import Likelihood as Likelihood, LikelihoodDecoder as LikelihoodDecoder
    from mvcore.likelihoods.counts import (
        NegativeBinomialLikelihood as NegativeBinomialLikelihood,
        NegativeBinomialObservation as NegativeBinomialObservation,
        PoissonLikelihood as PoissonLikelihood,
        PoissonObservation as PoissonObservation,
        ZeroInflatedNegativeBinomialLikelihood as ZeroInflatedNegativeBinomialLikelihood,
        ZeroInflatedObservation as ZeroInflatedObservation,
    )
    from mvcore.likelihoods.discrete import (
        BernoulliLikelihood as BernoulliLikelihood,
        BernoulliObservation as BernoulliObservation,
        CategoricalLikelihood as CategoricalLikelihood,
        CategoricalObservation as CategoricalObservation,
    )
    from mvcore.likelihoods.observations import Observation as Observation, Rescaled as Rescaled, per_value as per_value
    from mvcore.likelihoods.real import (
        CurvedObservation as CurvedObservation,
        LaplaceLikelihood as LaplaceLikelihood,
        LaplaceObservation as LaplaceObservation,
        LogNormalLikelihood as LogNormalLikelihood,
        NormalLikelihood as NormalLikelihood,
        NormalObservation as NormalObservation,
        StudentTLikelihood as StudentTLikelihood,
        StudentTObservation as StudentTObservation,
    )
    from mvcore.likelihoods.specs import (
        BernoulliConfig as BernoulliConfig,
        CategoricalConfig as CategoricalConfig,
        LaplaceConfig as LaplaceConfig,
        LogNormalConfig as LogNormalConfig,
        NegativeBinomialConfig as NegativeBinomialConfig,
        NormalConfig as NormalConfig,
        PoissonConfig as PoissonConfig,
        StudentTConfig as StudentTConfig,
        ZeroInflatedNegativeBinomialConfig as ZeroInflatedNegativeBinomialConfig,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "base": ("Likelihood", "LikelihoodDecoder"),
            "counts": (
                "NegativeBinomialLikelihood",
                "NegativeBinomialObservation",
                "PoissonLikelihood",
                "PoissonObservation",
                "ZeroInflatedNegativeBinomialLikelihood",
                "ZeroInflatedObservation",
            ),
            "discrete": (
                "BernoulliLikelihood",
                "BernoulliObservation",
                "CategoricalLikelihood",
                "CategoricalObservation",
            ),
            "observations": ("Observation", "Rescaled", "per_value"),
            "real": (
                "CurvedObservation",
                "LaplaceLikelihood",
                "LaplaceObservation",
                "LogNormalLikelihood",
                "NormalLikelihood",
                "NormalObservation",
                "StudentTLikelihood",
                "StudentTObservation",
            ),
            "specs": (
                "BernoulliConfig",
                "CategoricalConfig",
                "LaplaceConfig",
                "LogNormalConfig",
                "NegativeBinomialConfig",
                "NormalConfig",
                "PoissonConfig",
                "StudentTConfig",
                "ZeroInflatedNegativeBinomialConfig",
            ),
        },
    )
