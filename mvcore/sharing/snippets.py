"""Code for a model's card that runs as it stands, on a row made up for it."""

from __future__ import annotations

from mvcore.data.schema import CovariateSpec, ModalitySpec, Schema


def impute_and_embed(schema: Schema, address: str) -> tuple[str, str]:
    """Two examples of a model's use: what its rows lack is filled, and each row becomes a point.

    The row has the first modality only, which is what the model is for.
    """
    first, other = schema.modalities[0], schema.modalities[-1].name
    frames = first.columns is not None
    imports = ["import pandas as pd"] if frames else ["import numpy as np"]
    make = (_frames if frames else _arrays)(first, schema)
    setup = [*imports, "", "import mvcore", "", f"model = mvcore.load({address!r})", *make]
    impute = [*setup, "filled = mvcore.impute(model, rows, interval=0.9)", f"filled[{literal(other)}].filled"]
    embed = "points = mvcore.embed(model, rows)  # one point a row; rows as above"
    return "\n".join(impute), embed


def literal(value: object) -> str:
    """A value as Python writes it, in signs that mean nothing in Markdown or HTML."""
    return ascii(value).replace("<", "\\x3c")


def _arrays(first: ModalitySpec, schema: Schema) -> list[str]:
    """A data set of arrays; what comes without columns is one."""
    kind = ", int" if first.categories is not None else ""
    context = "".join(f"{literal(c.name)}: np.zeros({(1, *c.shape)!r}{_kind(c)}), " for c in schema.context)
    told = f", context={{{context.removesuffix(', ')}}}" if context else ""
    return [
        f"x = {{{literal(first.name)}: np.zeros({(1, *first.shape)!r}{kind})}}  # your rows, of any modalities",
        f"rows = mvcore.MultimodalDataset(x, likelihoods={{{literal(first.name)}: {literal(first.likelihood)}}}{told})",
    ]


def _frames(first: ModalitySpec, schema: Schema) -> list[str]:
    """A data set of tables."""
    row, kind = f"[{_cell_of(first)}] * len(spec.columns)", ""
    if first.category_names is not None:
        row, kind = "[names[0] for names in spec.category_names]", '.astype("category")'
    lines = [
        f"spec = model.schema[{literal(first.name)}]",
        f'table = pd.DataFrame([{row}], columns=spec.columns, index=["row 1"]){kind}  # your tables here',
    ]
    context = ", ".join(f"{literal(c.name)}: {_value(c)}" for c in schema.context)
    told = f', context=pd.DataFrame({{{context}}}, index=["row 1"])' if context else ""
    return [*lines, f"rows = mvcore.from_frames({{{literal(first.name)}: table}}, schema=model.schema{told})"]


def _cell_of(spec: ModalitySpec) -> str:
    kinds = set(spec.dtypes or ())
    return "False" if kinds == {"bool"} else "0" if kinds == {"int"} else "0.0"


def _kind(covariate: CovariateSpec) -> str:
    return ", int" if covariate.categories is not None else ""


def _value(covariate: CovariateSpec) -> str:
    if covariate.category_names is not None:
        return f"pd.Categorical([{literal(covariate.category_names[0])}])"
    return "0" if covariate.categories is not None else "0.0"
