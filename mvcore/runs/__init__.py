"""A training described in a file, and the folder that it leaves."""

from typing import TYPE_CHECKING

from mvcore.faces import face

if TYPE_CHECKING:
    from mvcore.runs.rows import rows_for as rows_for
    from mvcore.runs.run import (
        DataTable as DataTable,
        RunData as RunData,
        data_of as data_of,
        model_folder as model_folder,
        read as read,
        read_tables as read_tables,
        run_data as run_data,
        train as train,
    )
else:
    __all__, __getattr__, __dir__ = face(
        __name__,
        {
            "rows": ("rows_for",),
            "run": (
                "DataTable",
                "RunData",
                "data_of",
                "model_folder",
                "read",
                "read_tables",
                "run_data",
                "train",
            ),
        },
    )
