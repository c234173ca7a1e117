"""The base of every model: the author writes five methods, everything else is final here."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import torch
from torch import Tensor, nn

from mvcore import arguments
from mvcore.data.align import aligned, aligned_batch, as_data
from mvcore.data.batch import Batch
from mvcore.data.rows import Rows
from mvcore.data.schema import ModalitySpec, Schema
from mvcore.data.transforms import Affine, Bent, InputTransform
from mvcore.distributions.latents import Latents
from mvcore.distributions.protocols import LatentDistribution
from mvcore.errors import DataError, NotApplicableError
from mvcore.inference import estimators
from mvcore.inference.encodings import Encodings
from mvcore.inference.finite import check_answers
from mvcore.inference.isolation import isolated
from mvcore.likelihoods.base import LikelihoodDecoder
from mvcore.likelihoods.observations import Observation
from mvcore.losses.base import LossOutput
from mvcore.models.context import Covariates, context_rows
from mvcore.models.supports import check_support
from mvcore.nn.protocols import Encoder
from mvcore.nn.trial import as_module
from mvcore.options import Estimator
from mvcore.plugins.spec import ModelConfig
from mvcore.samplers.base import Sampler

if TYPE_CHECKING:
    from mvcore.options import TrainingRecord
    from mvcore.storage.address import Origin


@final
@dataclass(frozen=True)
class Stage:
    """A part of the training with a loss of its own."""

    name: str
    """Handed to ``forward``, which chooses the loss by it."""
    share: float = 1.0
    """Share of the epochs, relative to the other stages."""
    frozen: tuple[nn.Module, ...] = ()
    """Modules that the stage does not train; the loop keeps them in eval mode."""


class Model(nn.Module, ABC):
    """Base of every model.

    An author writes ``forward``, ``encode_modalities``, ``posterior``, ``prior`` and ``decode``, and, where the
    posterior has no normalised density, ``proposal``. Inference methods work on partial rows, leave the batch, the
    mode of every module and the global random state as they were, and draw from ``generator``; without one they draw
    from a fresh generator with seed 0, so that equal calls give equal results. They take batches from any device and
    answer on the model's.

    Args:
        schema: The modalities.
        inputs: For each modality the transform that its encoder's input goes through.
        encoders: For each modality its encoder.
        decoders: For each modality its decoder network with its likelihood. One that has none is a condition: the model
            reads it, but has no density of it.
        config: The config the model was built from; None for a model built by hand, which can't be saved.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        inputs: Mapping[str, InputTransform],
        encoders: Mapping[str, Encoder],
        decoders: Mapping[str, LikelihoodDecoder],
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__()
        self.schema, self.config = schema, config
        #: What ``generate`` draws from in place of the prior; ``mvcore.fit_sampler`` puts it here.
        self.sampler: Sampler | None = None
        #: How it was trained; ``mvcore.fit`` notes it, and it is saved with the model.
        self.record: TrainingRecord | None = None
        #: The commit on the Hub that it was loaded from.
        self.origin: Origin | None = None
        #: Modules of the caller's own, which a saved config could not name, each with the group that it belongs in.
        self.unpackaged: tuple[tuple[str, str], ...] = ()
        for name in schema.names:
            if hasattr(nn.ModuleDict, name):  # a later torch may have more names than the schema knows
                raise DataError(f"A modality can't be called {name!r}: torch keeps the name for itself. Rename it.")
        self.inputs = nn.ModuleDict({m: inputs[m] for m in schema.names})
        self.encoders = nn.ModuleDict(
            {m: as_module(f"The encoder of {m!r}", encoders[m], ("x", "mask", "context")) for m in schema.names}
        )
        self.decoders = nn.ModuleDict({m: decoders[m] for m in schema.names if m in decoders})
        for m in self.decoders:
            as_module(f"The decoder network of {m!r}", decoders[m].network, ("z", "context"))
        self.covariates = Covariates(schema.context)

    takes_padded: ClassVar[bool] = False
    """Whether ``forward`` takes a ``PaddedBatch`` and an epoch that is a tensor: ``fit`` may then capture its steps."""

    @abstractmethod
    def forward(self, batch: Batch, *, epoch: float = math.inf, stage: str | None = None) -> LossOutput:
        """The training loss of a batch; usable in any loop.

        Args:
            batch: Rows with any pattern of observed modalities.
            epoch: Epochs trained so far, a fraction inside an epoch; the default is after every warm-up.
            stage: Name of the stage; None for the first.
        """

    @abstractmethod
    def encode_modalities(self, batch: Batch) -> Encodings:
        """Runs each network once, on the rows that have its modality."""

    @abstractmethod
    def posterior(self, encodings: Encodings) -> LatentDistribution:
        """q(latents | what the rows have); for a row with nothing, the prior."""

    @abstractmethod
    def prior(self, encodings: Encodings | None = None) -> LatentDistribution:
        """p(latents) for the rows of the encodings, or, without any, for one row that stands for all."""

    @abstractmethod
    def decode(self, latents: Mapping[str, Tensor], name: str, context: Tensor | None = None) -> Observation:
        """p(x_m | latents) of one modality, with batch shape (K, N). Call ``observe`` to decode for rows.

        Args:
            latents: Latents ``(K, N, *shape)``.
            name: The modality.
            context: The covariates of each pair's row ``(K, N, C)``, which its decoder is called with; None where the
                schema has none.
        """

    def proposal(self, encodings: Encodings) -> LatentDistribution:
        """The normalised density that importance sampling draws from; the posterior, unless it has none."""
        return self.posterior(encodings)

    def stages(self) -> Sequence[Stage]:
        """The stages of the training, in order."""
        return (Stage("train"),)

    def check_training(self, observed: Tensor) -> None:
        """Raises a DataError, or warns, if rows with the modalities ``observed (n, M)`` can't train the model well."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def generated(self) -> tuple[str, ...]:
        """The modalities that it has a density of, those with a decoder; any other is a condition, which it only reads.

        What is generated, imputed and scored are these alone: a likelihood is then log p(these | the conditions).
        """
        return tuple(m for m in self.schema.names if m in self.decoders)

    @property
    def latent_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one draw of each latent, by name."""
        with isolated(self, None):
            return {name: tuple(z.shape[2:]) for name, z in self.prior().draw(1).values.items()}

    @final
    def encode_each(self, batch: Batch, inputs: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        """What each modality's encoder makes of the rows that have it, after the input transform.

        Args:
            batch: The rows.
            inputs: For each modality what its transform has made of them already, as ``transformed`` gives it.
        """
        if unknown := set(batch.names) - set(self.schema.names):
            known = ", ".join(self.schema.names)
            raise DataError(f"The batch has the modality {min(unknown)!r}, the model has {known}.")
        seen = self.transformed(batch) if inputs is None else inputs
        return {m: self._encode_one(m, batch, seen[m]) for m in batch.names}

    @final
    def transformed(self, batch: Batch) -> dict[str, Tensor]:
        """What the encoders see of a batch: for each modality its input transform's ``(n_m, *input_shape)``."""
        return {m: self.inputs[m](*batch.values(m)) for m in batch.names}

    def _encode_one(self, name: str, batch: Batch, x: Tensor) -> Any:
        context = self.context_of(batch, batch.match(name, None)[0]) if self.schema.context else None
        return self.encoders[name](x, batch.values(name)[1], context)

    @final
    def context_of(self, batch: Batch, rows: Tensor | None = None) -> Tensor | None:
        """What networks are told of some rows ``(n,)`` of a batch, or of all: ``(n, C)``; None without covariates."""
        if not self.schema.context:
            return None
        context: Tensor = self.covariates(batch.context, next(self.parameters()))
        return context if rows is None else context.index_select(0, rows)

    @final
    def observe(
        self, latents: Mapping[str, Tensor], name: str, batch: Batch | None = None, rows: Tensor | None = None
    ) -> Observation:
        """p(x_m | latents, context) of one modality: ``decode`` with the rows' covariates and size factors.

        Args:
            latents: Latents ``(K, N, *shape)``.
            name: The modality.
            batch: The rows that have the context; None where there is none.
            rows: The row of each pair ``(N,)``, on the batch's device; None where pair n is row n.

        Raises:
            DataError: If the schema has covariates and no batch is given, or the batch lacks one.
            NotApplicableError: If the modality is a condition.
        """
        self._check_generated([name])
        told = None
        if self.schema.context:
            context = self.context_of(Batch({}, torch.ones(0, 0, dtype=torch.bool)) if batch is None else batch, rows)
            assert context is not None
            shape = next(iter(latents.values())).shape[:2]
            told = context.expand(*shape, -1)
        observation = self.decode(latents, name, told)
        factors = None if batch is None else batch.size_factors.get(name)
        if factors is None:
            return observation
        return observation.scaled(factors if rows is None else factors.index_select(0, rows))

    @final
    def encode(self, batch: Batch, K: int = 1, *, generator: torch.Generator | None = None) -> Latents:
        """K draws of the latents of each row, ``(K, B, *shape)`` each."""
        batch, K = self.fitting(batch), arguments.count("K", K)
        with isolated(self, generator):
            return self.posterior(self.encode_modalities(batch)).draw(K)

    @final
    def embed(self, batch: Batch, *, generator: torch.Generator | None = None) -> Tensor:
        """Posterior means of the shared latent ``(B, D)``."""
        batch = self.fitting(batch)
        with isolated(self, generator):
            points = self.posterior(self.encode_modalities(batch)).point()["shared"][0]
            check_answers(self, batch, "embedding", [points])
            return points

    @final
    def generate(
        self,
        n: int,
        given: Batch | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        sampler: Sampler | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Means of n generated observations of every modality but conditions; of categories their probabilities.

        Args:
            n: Number of draws.
            given: Rows to condition on. Without any, draws come from the sampler, or from the prior.
            context: Covariates of the draws where no rows are given, as a data set takes them: n of each, or one for
                all draws. Rows bring their own.
            sampler: A fitted sampler of the latents; the model's own by default.
            generator: Source of the draws.

        Returns:
            ``(n, *shape)`` for each modality of ``generated``, or ``(n, B, *shape)`` where rows are given;
            ``(…, P, *shape)`` for categories.
        """
        if given is not None and sampler is not None:
            raise DataError("A sampler draws without rows to condition on; give one of the two.")
        if given is not None and context is not None:
            raise DataError("The rows to condition on have their own context; give one of the two.")
        given, n = None if given is None else self.fitting(given), arguments.count("n", n)
        with isolated(self, generator):
            if given is not None:
                latents = self.posterior(self.encode_modalities(given)).draw(n)
                return {m: self._mean(latents.values, self.schema[m], given) for m in self.generated}
            sampler = self.sampler if sampler is None else sampler
            latents = self.prior().draw(n) if sampler is None else sampler.draw(self, n)
            rows = context_rows(context, n, self.device)
            drawn = {name: v.transpose(0, 1) for name, v in latents.values.items()}  # each draw is a row
            return {m: self._mean(drawn, self.schema[m], rows).flatten(0, 1) for m in self.generated}

    def _mean(self, latents: Mapping[str, Tensor], spec: ModalitySpec, batch: Batch | None) -> Tensor:
        return estimators.of_own_categories(self.observe(latents, spec.name, batch).mean, spec)

    @final
    def impute(self, batch: Batch, *, K: int = 64, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Every modality of every row ``(B, *shape)``: what is observed as it is, the rest by its predictive mean.

        Conditions, which the model has no density of, are left out.

        The predictive mean is the average of the decoder's mean over K draws of the posterior; for categories the
        most probable one. Counts are those of the row's size factor, of 1 where it has none.
        """
        batch, K = self.fitting(batch), arguments.count("K", K)
        with isolated(self, generator):
            latents = self.posterior(self.encode_modalities(batch)).draw(K)
            filled = {m: estimators.fill(self, batch, latents, m) for m in self.generated}
            check_answers(self, batch, "imputed value", filled.values())
            return filled

    @final
    def log_likelihood(self, batch: Batch, K: int = 1000, *, generator: torch.Generator | None = None) -> Tensor:
        """Importance-sampled log p(what the row has) in nats, ``(B,)``, in data units.

        Of a model with conditions it is log p(what the row has of ``generated`` | its conditions), 0 without any of it.

        exp of it is unbiased; it is itself low on average by O(1/K). A mixture is sampled stratified, with at least
        one draw of each component and at least K in all, and scored under the whole mixture.
        """
        batch, K = self.fitting(batch), arguments.count("K", K)
        with isolated(self, generator):
            values = estimators.log_likelihood(self, batch, self.encode_modalities(batch), K)
            check_answers(self, batch, "log-likelihood", [values.where(values.isnan(), 0)[:, None]])
            return values

    @final
    def conditional_log_likelihood(
        self,
        batch: Batch,
        target: Iterable[str],
        given: Iterable[str] | None = None,
        estimator: Estimator = "predictive",
        K: int = 1000,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Log p(target | given) in nats ``(B,)``, of what each row has of both; NaN for a row without a target.

        Args:
            batch: The rows.
            target: Modalities to score.
            given: Modalities to condition on; all others by default.
            estimator: ``predictive``: log E_q(z|given) p(target|z), the density of the imputer; ``ratio``:
                log p(target, given) − log p(given), consistent, no bound; ``reweighted``: the same samples,
                reweighted to the exact posterior.
            K: Draws for each row.
            generator: Source of the draws.

        Raises:
            DataError: If there is no target, or it is given too.
            NotApplicableError: If a target is a condition.
        """
        batch, K = self.fitting(batch), arguments.count("K", K)
        names = batch.only(target).names
        self._check_generated(names)
        others = batch.without(names).names if given is None else batch.only(given).names
        if not names or set(names) & set(others):
            raise DataError(f"Targets and given modalities must not overlap; got {names!r} and {others!r}.")
        with isolated(self, generator):
            return estimators.conditional_log_likelihood(self, batch, names, others, estimator, K)

    @final
    def fitting(self, batch: Batch) -> Batch:
        """The batch on the model's device, its modalities in the model's order; what every inference method reads.

        Raises:
            DataError: If it does not fit the model: see ``aligned_batch``.
        """
        return aligned_batch(batch, self.schema).to(self.device)

    @final
    def fit_transforms(self, data: Rows | Batch) -> None:
        """Fits every transform that is not fitted yet to the observed rows of the training data."""
        rows = self._matched(data, every=True)
        for name in self.schema.names:
            inputs, target = self.inputs[name], self._target(name)
            assert isinstance(inputs, InputTransform)
            inputs.fit(lambda name=name: rows.stream(name))  # type: ignore[misc]
            if target is not None:
                target.fit(lambda name=name: rows.stream(name))  # type: ignore[misc]
        if self.schema.context:
            self.covariates.fit(rows.stream_context)

    @final
    def check(self, data: Rows | Batch) -> None:
        """Raises a DataError if the data does not fit the schema or a likelihood; asked once for each data set."""
        rows = self._matched(data)
        for context in rows.stream_context() if self.schema.context else ():
            self.covariates.check(context)
        for modality in self.schema:
            check_support(self, modality, rows)

    def _target(self, name: str) -> Affine | Bent | None:
        if name not in self.decoders:
            return None
        decoder = self.decoders[name]
        assert isinstance(decoder, LikelihoodDecoder)
        return decoder.target

    def _check_generated(self, names: Iterable[str]) -> None:
        if conditions := [m for m in names if m in self.schema.names and m not in self.decoders]:
            raise NotApplicableError(
                f"This {type(self).__name__} has no density of {conditions[0]!r}, which it is conditioned on; it "
                f"generates, imputes and scores {', '.join(self.generated)} alone."
            )

    def _matched(self, data: Rows | Batch, *, every: bool = False) -> Rows:
        """Rows whose modalities and columns have names are matched by them."""
        rows = as_data(data, self.schema) if isinstance(data, Batch) else data
        return aligned(rows, self.schema, every=every)
