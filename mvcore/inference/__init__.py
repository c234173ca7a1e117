"""What a trained model says of rows: likelihoods, predictions, imputation."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.inference.encodings import Encodings as Encodings
    from mvcore.inference.estimators import (
        BLOCK as BLOCK,
        conditional_log_likelihood as conditional_log_likelihood,
        conditional_of_encodings as conditional_of_encodings,
        conditionals_of_encodings as conditionals_of_encodings,
        decoded as decoded,
        fill as fill,
        importance_weights as importance_weights,
        log_likelihood as log_likelihood,
        log_likelihoods as log_likelihoods,
        predictive_mean as predictive_mean,
        score as score,
    )
    from mvcore.inference.imputation import Imputed as Imputed, predictions as predictions
    from mvcore.inference.isolation import isolated as isolated
    from mvcore.inference.predictive import Predicted as Predicted, predict as predict
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "encodings": ("Encodings",),
            "estimators": (
                "BLOCK",
                "conditional_log_likelihood",
                "conditional_of_encodings",
                "conditionals_of_encodings",
                "decoded",
                "fill",
                "importance_weights",
                "log_likelihood",
                "log_likelihoods",
                "predictive_mean",
                "score",
            ),
            "imputation": ("Imputed", "predictions"),
            "isolation": ("isolated",),
            "predictive": ("Predicted", "predict"),
        },
    )
