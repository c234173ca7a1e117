"""A model trained by two gloo processes, one of which never sees a modality."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from mvcore.testing.conformance import Case


def ranks(case: Case) -> None:
    """Two processes, a modality absent on one of them, train to the same finite weights."""
    with tempfile.TemporaryDirectory() as folder:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        arguments = ["-m", "mvcore.testing.ranks", case.component, json.dumps(case.fields), folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run([*launch, *arguments], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"a process failed: {done.stderr[-8000:]}"
        first, second = (load_file(Path(folder) / f"{rank}.safetensors") for rank in (0, 1))
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"the two processes ended with other weights of {name}"
        assert value.isfinite().all(), f"{name} is not finite"


def _worker(component: str, fields: str, folder: str) -> None:
    """One of the processes: of eight rows the first alone has the last modality, so one process never sees it."""
    from accelerate import Accelerator

    import mvcore
    from mvcore.data.dataset import MultimodalDataset
    from mvcore.testing.conformance import Case

    torch.set_num_threads(1)
    case, accelerator = Case("model", component, json.loads(fields)), Accelerator(cpu=True)
    observed = torch.ones(8, 3, dtype=torch.bool)
    observed[1:, 2] = False
    data = MultimodalDataset.from_batch(case.world.schema, case.world.sample(8, observed=observed))
    run = mvcore.fit(
        case.make(case.world.schema), data, epochs=2, batch_size=4, hooks=False, progress=False, accelerator=accelerator
    )
    weights = {name: value.contiguous() for name, value in run.model.state_dict().items()}
    save_file(weights, f"{folder}/{accelerator.process_index}.safetensors")
    accelerator.wait_for_everyone()  # a process that leaves first may take the other's connection with it
    accelerator.end_training()


if __name__ == "__main__":
    _worker(*sys.argv[1:])
