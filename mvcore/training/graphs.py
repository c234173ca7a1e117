"""Training steps captured as CUDA graphs: forward and backward pass of a batch size are launched as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mvcore.data.dataset import MultimodalDataset
from mvcore.data.padded import NotCapturableError
from mvcore.data.rows import Rows
from mvcore.losses.base import LossOutput
from mvcore.models.base import Model
from mvcore.options import TrainingConfig
from mvcore.training.capturable import Capturable
from mvcore.training.draws import no_shared_draws
from mvcore.training.feed import Feed

log = logging.getLogger(__name__)

#: Relative difference of loss and gradients from which what pads the rows counts as read, or a step as another one.
TOLERANCE = 1e-3


@final
@dataclass
class _Captured:
    """A step of one batch size: run again, it computes the loss and the gradients of what its feed has brought."""

    feed: Feed
    run: Callable[[], Any]
    names: list[str]  # of the terms
    values: Tensor  # the loss and its terms
    gradients: list[Tensor | None]


@final
class Graphs:
    """The captured steps of a stage, one for each batch size.

    A step is captured if it has one shape and asks for nothing on the host, if it does not depend on what rows are
    padded with, and if, run again, it computes what it did when it was launched operation by operation. Otherwise
    ``step`` gives None from then on, and the log says why. Neither weights nor random states are changed by a capture.

    Args:
        model: The model, in training mode when steps are made.
        module: The same as accelerate has prepared it.
        accelerator: The device.
        data: The rows.
        stage: Name of the stage.
    """

    def __init__(
        self, model: Model, module: nn.Module, accelerator: Accelerator, data: MultimodalDataset, stage: str
    ) -> None:
        self.model, self.module, self.accelerator, self.data, self.stage = model, module, accelerator, data, stage
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.device = accelerator.device
        self.refused = False
        self._steps: dict[int, _Captured] = {}
        self._pool: Any = None

    def step(self, rows: Tensor, epoch: float) -> LossOutput | None:
        """The loss of some rows, their gradients in the parameters; None where the step can't be captured."""
        if self.refused:
            return None
        if len(rows) not in self._steps:
            captured = self._capture(rows, epoch)
            if captured is None:
                return None
            self._steps[len(rows)] = captured
        captured = self._steps[len(rows)]
        captured.feed.load(rows, epoch)
        captured.run()
        for parameter, gradient in zip(self.parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        loss, *terms = captured.values.clone().unbind()  # the next step writes where this one did
        return LossOutput(loss, dict(zip(captured.names, terms, strict=True)))

    def _capture(self, rows: Tensor, epoch: float) -> _Captured | None:
        try:
            feed = Feed(self.data, len(rows), self.device)
            with self._nothing_changed(), no_shared_draws():
                captured = self._captured(feed, rows, epoch)
        except Exception as cause:  # whatever a part of the model does that a captured step may not
            self.refused = True
            self._steps.clear()
            self._drop_gradients()
            log.warning(
                "The steps of %s are launched operation by operation, for they can't be captured: %s",
                type(self.model).__name__,
                " ".join(str(cause).split()) or type(cause).__name__,
            )
            return None
        return captured

    def _captured(self, feed: Feed, rows: Tensor, epoch: float) -> _Captured:
        states = self._states()
        with self._aside():
            feed.load(rows, epoch)
            self._forward_backward(feed)  # what is made once is made here
            self._back_to(states)
            with Capturable(self.device, [*self.parameters, feed.memory]):
                names, values = self._forward_backward(feed)
            first = self._found(values)
            self._back_to(states)
            feed.load(rows, epoch, shift=1)
            _, values = self._forward_backward(feed)
            _check_same(first, self._found(values), "depends on what rows are padded with")
            feed.load(rows, epoch)
        self._back_to(states)
        captured = self._recorded(feed, names)
        self._back_to(states)
        captured.run()
        again = [captured.values, *(g for g in captured.gradients if g is not None)]
        _check_same(first, again, "computes something else when it is run again")
        return captured

    def _recorded(self, feed: Feed, names: list[str]) -> _Captured:
        self._drop_gradients()
        if self.device.type != "cuda":
            return self._repeated(feed, names)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            _, values = self._forward_backward(feed)
        self._pool = graph.pool()
        gradients = [p.grad for p in self.parameters]
        return _Captured(feed, graph.replay, names, values, gradients)

    def _repeated(self, feed: Feed, names: list[str]) -> _Captured:
        """A step that is no graph: the same computation, on a device that has none."""
        captured = _Captured(feed, lambda: None, names, torch.zeros(()), [])

        def run() -> None:
            _, captured.values = self._forward_backward(feed)
            captured.gradients = [p.grad for p in self.parameters]

        captured.run = run
        return captured

    def _forward_backward(self, feed: Feed) -> tuple[list[str], Tensor]:
        """Both passes: the names of the terms, and the loss and the terms; no part of the graph is kept alive."""
        self._drop_gradients()
        output: LossOutput = self.module(feed.batch(), epoch=feed.epoch, stage=self.stage)
        values = torch.stack([output.loss.detach().float(), *(v.float() for v in output.terms.values())])
        self.accelerator.backward(output.loss)
        return list(output.terms), values

    def _found(self, values: Tensor) -> list[Tensor]:
        return [values.clone(), *(p.grad.clone() for p in self.parameters if p.grad is not None)]

    def _drop_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On a stream of its own, as is asked of what comes before a capture."""
        if self.device.type != "cuda":
            yield
            return
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(stream)

    @contextmanager
    def _nothing_changed(self) -> Iterator[None]:
        """Afterwards random states and buffers are as they were."""
        states = self._states()
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        try:
            yield
        finally:
            self._back_to(states)
            with torch.no_grad():
                for name, value in self.model.named_buffers():
                    value.copy_(buffers[name])

    def _states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else states

    def _back_to(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)


def graphs_of(
    model: Model, module: nn.Module, accelerator: Accelerator, data: Rows, stage: str, options: TrainingConfig
) -> Graphs | None:
    """The captured steps of a stage; None where none are wanted, or the training is of a kind that has none."""
    if options.graphs == "off" or accelerator.device.type != "cuda":
        return None
    reasons = {
        "the rows are read as they are asked for": not isinstance(data, MultimodalDataset),
        "the batch is divided into micro-batches": options.accumulate > 1,
        "there are several ranks": accelerator.num_processes > 1,
        # in fp16 a gradient may overflow, and the next step's be scaled otherwise: nothing can be compared
        "the precision is fp16": accelerator.mixed_precision == "fp16",
        f"{type(model).__name__} does not take padded rows": not model.takes_padded,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        log.info("Steps are launched operation by operation: %s.", "; ".join(found))
        return None
    assert isinstance(data, MultimodalDataset)
    return Graphs(model, module, accelerator, data, stage)


def _check_same(first: list[Tensor], second: list[Tensor], what: str) -> None:
    """Raises a NotCapturableError unless loss and terms, the first of each list, and the gradients agree."""
    if len(first) != len(second):
        raise NotCapturableError(f"The step {what}: other parameters get a gradient.")
    sizes = torch.stack([v.double().norm() for v in first])
    errors = torch.stack([(a.double() - b.double()).norm() for a, b in zip(first, second, strict=True)])
    # a gradient that is 0 but for rounding is measured by the largest one
    scales = sizes.maximum(TOLERANCE * torch.cat([sizes[:1], sizes[1:].amax().expand(len(sizes) - 1)]))
    if not bool((errors <= TOLERANCE * scales).all()):
        raise NotCapturableError(f"The step {what}.")
