"""``mvcore sample``: generated observations."""

from __future__ import annotations

from pathlib import Path

import click

from mvcore.cli._models import MODEL, loaded


@click.command("sample")
@click.argument("model", type=MODEL)
@click.option("--n", default=16, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of what is generated."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
def command(model: Path | str, n: int, out: Path, seed: int) -> None:
    """Generate N observations of every modality from MODEL, by its fitted sampler or its prior.

    MODEL is a saved model, a run, or hf://user/name.

    Writes the decoder's means (of categories the probabilities): a CSV file for a modality that is a table, a .npy
    file, rows first, for any other.
    """
    import numpy as np
    import torch

    from mvcore.data.frames import to_frame
    from mvcore.data.names import file_name
    from mvcore.storage.writing import refuse_full, whole_folder
    from mvcore.text import clean

    refuse_full(out)
    found = loaded(model)
    drawn = found.generate(n, generator=torch.Generator().manual_seed(seed))
    with whole_folder(out) as folder:
        for name, values in drawn.items():
            spec = found.schema[name]
            if spec.columns is not None and spec.categories is None:
                to_frame(values, spec, None).to_csv(folder / f"{file_name(spec.name)}.csv")
            else:
                np.save(folder / f"{file_name(spec.name)}.npy", values.numpy(force=True), allow_pickle=False)
    click.echo(f"Generated {n} observations of {clean(', '.join(drawn))}; they are in {out}/.")
