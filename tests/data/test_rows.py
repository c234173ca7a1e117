"""Rows that stay where they are, on disk or anywhere, stand wherever a ``MultimodalDataset`` does."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mvcore
from mvcore.data import Batch, ModalitySpec, MultimodalDataset, Rows, Schema, Selected, column, dense, known_cells
from mvcore.data.rows import patterns

N, BLOCK = 60, 7


class OnDisk:
    """Rows in one .npy file a modality, NaN where a value is not known; it counts what it reads at once."""

    def __init__(self, folder: Path, data: MultimodalDataset) -> None:
        self.schema, self.observed, self.labels, self.ids = data.schema, data.observed, data.labels, data.ids
        for name in self.schema.names:
            values = torch.full((len(data), *self.schema[name].shape), torch.nan)
            packed, cells = data.batch().values(name)
            values[column(data, name)] = packed.float() if cells is None else packed.where(cells, torch.nan)
            np.save(folder / f"{name}.npy", values.numpy())
        self._files = {m: np.load(folder / f"{m}.npy", mmap_mode="r") for m in self.schema.names}
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.observed)

    def batch(self, rows: Tensor | None = None) -> Batch:
        index = (
            torch.arange(len(self)) if rows is None else rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows
        )
        self.read.append(len(index))
        x, cells = {}, {}
        for name in self.schema.names:
            x[name], known = self._values(name, index[column(self, name)[index]])
            if not bool(known.all()):
                cells[name] = known
        return Batch(x, self.observed[index], cells)

    def stream(self, name: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        for index in column(self, name).nonzero().squeeze(1).split(BLOCK):
            values, known = self._values(name, index)
            yield values, None if bool(known.all()) else known

    def stream_context(self) -> Iterator[Mapping[str, Tensor]]:
        yield from ()

    def _values(self, name: str, index: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.from_numpy(np.asarray(self._files[name][index.numpy()]))
        known = ~values.isnan()
        values = values.where(known, 0)
        return (values.long() if self.schema[name].categories else values), known


@pytest.fixture
def data() -> MultimodalDataset:
    """Three modalities, one of them of categories, with gaps of all kinds."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(N, 2, generator=g)
    a = z @ torch.randn(2, 4, generator=g) + 0.3 * torch.randn(N, 4, generator=g)
    b = 40 + 3 * z @ torch.randn(2, 3, generator=g)
    c = (z[:, :1] > 0).long() + (z[:, 1:] > 0).long()
    known = torch.rand(N, 4, generator=g) > 0.1
    known[:, 0] = True
    masks = {"b": torch.rand(N, generator=g) > 0.4, "c": torch.rand(N, generator=g) > 0.3}
    return MultimodalDataset(
        {"a": a, "b": b, "c": c}, masks, cells={"a": known}, labels=c[:, 0].numpy(), ids=[f"p{i}" for i in range(N)],
        columns={"a": ["a0", "a1", "a2", "a3"], "b": ["b0", "b1", "b2"]},
    )  # fmt: skip


def trained(data: MultimodalDataset, rows: Rows, validation: Rows) -> mvcore.Run:
    """A short training on ``rows``, from the start that ``data`` gives.

    The transforms are fitted to ``data``: the sums of blocks round otherwise than one sum does.
    """
    torch.manual_seed(0)
    model = mvcore.create("multimodal", data, latent_dim=3)
    model.fit_transforms(data)
    return mvcore.fit(model, rows, validation=validation, epochs=2, batch_size=16, lr=1e-3, progress=False)


def test_a_training_on_disk_is_the_one_in_memory_and_reads_batches(data: MultimodalDataset, tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, data)
    here, there = trained(data, data, data), trained(data, disk, disk)
    assert here.history == there.history
    for name, value in here.model.state_dict().items():
        assert torch.equal(value, there.model.state_dict()[name]), name
    assert max(disk.read) == 16


def test_transforms_are_fitted_in_blocks(data: MultimodalDataset, tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, data)
    torch.manual_seed(0)
    here, there = (mvcore.create("multimodal", data, latent_dim=3) for _ in range(2))
    here.fit_transforms(data)
    there.fit_transforms(disk)
    wanted = {n: v for n, v in here.state_dict().items() if n.startswith("inputs.") or ".target." in n}
    assert len(wanted) > 4
    for name, value in wanted.items():
        torch.testing.assert_close(there.state_dict()[name], value)
    assert not disk.read


def test_a_checkpoint_of_rows_on_disk_goes_on(data: MultimodalDataset, tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, data)
    torch.manual_seed(0)
    model = mvcore.create("multimodal", data, latent_dim=3)
    mvcore.fit(model, disk, epochs=2, batch_size=16, progress=False, checkpoint=tmp_path / "run")
    again = mvcore.fit(model, disk, epochs=2, batch_size=16, progress=False, checkpoint=tmp_path / "run", resume=True)
    assert len(again.history) == 2
    other = Selected(disk, torch.arange(N - 1))
    with pytest.raises(mvcore.CheckpointError, match="rows"):
        mvcore.fit(model, other, epochs=2, batch_size=16, progress=False, checkpoint=tmp_path / "run", resume=True)


def test_what_a_model_gives_back_is_alike(data: MultimodalDataset, tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, data)
    model = trained(data, data, data).model
    filled = [mvcore.impute(model, rows, K=60, interval=0.9) for rows in (data, disk)]
    for name in data.schema.names:
        one, other = filled[0][name].filled, filled[1][name].filled
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert list(filled[1]["a"].filled.index) == list(data.ids)  # type: ignore[arg-type]
    assert mvcore.embed(model, data).equals(mvcore.embed(model, disk))
    each = [mvcore.fit_sampler(model, rows, "gaussian_mixture").state_dict() for rows in (data, disk)]
    assert each[0].keys() == each[1].keys()
    for name, value in each[0].items():
        torch.testing.assert_close(each[1][name], value)


def test_every_metric_is_alike(data: MultimodalDataset, tmp_path: Path) -> None:
    disk = OnDisk(tmp_path, data)
    model = trained(data, data, data).model
    here, there = (mvcore.evaluate(model, rows, train=rows, K=20) for rows in (data, disk))
    assert len(here.values) > 20
    assert there.values == pytest.approx(here.values, nan_ok=True)
    assert there.skipped == here.skipped
    cells = [mvcore.metrics.cell_coverage(model, rows, share=0.3, K=60) for rows in (data, disk)]
    assert cells[0] == cells[1]


def test_modalities_and_columns_are_matched_as_they_are_read(data: MultimodalDataset, tmp_path: Path) -> None:
    model = trained(data, data, data).model
    batch = data.batch()
    turned = (2, 0, 1)
    schema = Schema((
        data.schema["c"],
        ModalitySpec(name="b", shape=(3,), likelihood="normal", columns=tuple(f"b{i}" for i in turned)),
        data.schema["a"],
    ))  # fmt: skip
    x = {"c": batch.x["c"], "b": batch.x["b"][:, turned], "a": batch.x["a"]}
    other = MultimodalDataset.from_batch(schema, Batch(x, batch.observed[:, [2, 1, 0]], batch.cells), ids=data.ids)
    disk = OnDisk(tmp_path, other)
    assert mvcore.embed(model, disk).equals(mvcore.embed(model, data))
    one, more = mvcore.impute(model, data, K=20), mvcore.impute(model, disk, K=20)
    assert all(np.array_equal(np.asarray(one[m].filled), np.asarray(more[m].filled)) for m in data.schema.names)
    fewer = MultimodalDataset.from_batch(Schema((data.schema["a"],)), batch.only(["a"]), ids=data.ids)
    (tmp_path / "few").mkdir()
    few = OnDisk(tmp_path / "few", fewer)
    assert mvcore.embed(model, few).equals(mvcore.embed(model, fewer))
    with pytest.raises(mvcore.DataError, match="has the modalities"):
        mvcore.fit(model, few, epochs=1, progress=False)


def test_selected_rows_are_those_of_the_data_set(data: MultimodalDataset, tmp_path: Path) -> None:
    index = torch.tensor([5, 2, 40, 7, 3])
    mine, theirs = Selected(OnDisk(tmp_path, data), index), data.select(index)
    assert patterns(mine) == theirs.patterns()
    assert list(mine.ids) == list(theirs.ids)  # type: ignore[arg-type]
    for name in data.schema.names:
        assert torch.equal(dense(mine, name)[0], dense(theirs, name)[0])
        assert torch.equal(known_cells(mine, name), known_cells(theirs, name))


@pytest.mark.parametrize("what", [None, 3, "rows", {"a": [1.0]}, [[1.0]], np.zeros((3, 2))])
def test_what_is_no_rows_is_refused(data: MultimodalDataset, what: Any) -> None:
    model = mvcore.create("multimodal", data, latent_dim=3)
    for call in (mvcore.fit, mvcore.impute, mvcore.embed, mvcore.evaluate):
        with pytest.raises(mvcore.DataError):
            call(model, what)  # type: ignore[operator]
