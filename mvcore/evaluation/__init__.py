"""What a trained model is worth: one encoding for all metrics, the report, shared figures."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.evaluation.evaluation import (
        Evaluation as Evaluation,
        has_all as has_all,
        has_and_another as has_and_another,
        sizes as sizes,
    )
    from mvcore.evaluation.figures import (
        axes_of as axes_of,
        bars_by_inputs as bars_by_inputs,
        by_inputs as by_inputs,
        embedding as embedding,
        grouped as grouped,
        history as history,
        image_rows as image_rows,
        patterns as patterns,
    )
    from mvcore.evaluation.report import Report as Report, markdown as markdown
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "evaluation": ("Evaluation", "has_all", "has_and_another", "sizes"),
            "figures": (
                "axes_of",
                "bars_by_inputs",
                "by_inputs",
                "embedding",
                "grouped",
                "history",
                "image_rows",
                "patterns",
            ),
            "report": ("Report", "markdown"),
        },
    )
