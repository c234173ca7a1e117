"""Models trained by two gloo processes, one of which never sees a modality."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case


#: A model's component and its fields as JSON.
Job = tuple[str, str]
Weights = dict[str, Tensor]


def job_of(component: str, fields: Mapping[str, Any]) -> Job:
    """What the two processes are told to train."""
    return component, json.dumps(dict(fields))


def ranks(case: Case, among: tuple[Job, ...] = ()) -> None:
    """Two processes, a modality absent on one of them, train to the same finite weights.

    Args:
        case: The model.
        among: Models that one start of two processes trains, for all their cases; without the case's, it has its own.
    """
    job, fault = job_of(case.component, case.fields), ""
    done = _together(among)[0] if job in among else {}
    if job not in done:  # another model may have failed
        done, fault = _start((job,))
    assert job in done, f"a process failed: {fault}"
    first, second = done[job]
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"the two processes ended with other weights of {name}"
        assert value.isfinite().all(), f"{name} is not finite"


def _start(jobs: tuple[Job, ...]) -> tuple[dict[Job, tuple[Weights, Weights]], str]:
    """The weights of each model on both ranks; none if a process failed, and what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        arguments = ["-m", "mvcore.testing.ranks", json.dumps(jobs), folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        try:
            done = subprocess.run([*launch, *arguments], env=environment, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return {}, "they did not end in 300 s"
        if done.returncode:
            return {}, done.stderr[-8000:]
        files = [[Path(folder) / f"{i}-{rank}.safetensors" for rank in (0, 1)] for i in range(len(jobs))]
        return {job: (load_file(one), load_file(two)) for job, (one, two) in zip(jobs, files, strict=True)}, ""


#: One start for all cases that name the same models.
_together = lru_cache(maxsize=1)(_start)


def _worker(jobs: str, folder: str) -> None:
    """One of the processes, which trains one model after the other."""
    torch.set_num_threads(1)
    for i, (component, fields) in enumerate(json.loads(jobs)):
        weights = _train(component, json.loads(fields))  # which joins the processes
        save_file(weights, f"{folder}/{i}-{os.environ['RANK']}.safetensors")
        torch.distributed.barrier()  # a process that leaves first may take the other's connection with it
    torch.distributed.destroy_process_group()


def _train(component: str, fields: Mapping[str, Any]) -> Weights:
    """The weights of two epochs, or one a stage: of eight rows the first alone has the last modality.

    So one process never sees it.
    """
    import mvcore
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.testing.conformance import Case

    case = Case("model", component, fields)
    observed = torch.ones(8, 3, dtype=torch.bool)
    observed[1:, 2] = False
    data = MultimodalDataset.from_batch(case.world.schema, case.world.sample(8, observed=observed))
    model = case.make(case.world.schema)
    epochs = max(2, len(model.stages()))
    run = mvcore.fit(model, data, epochs=epochs, batch_size=4, hooks=False, progress=False)
    return {name: value.contiguous() for name, value in run.model.state_dict().items()}


if __name__ == "__main__":
    _worker(*sys.argv[1:])
