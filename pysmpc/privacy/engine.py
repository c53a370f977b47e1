"""Differentially private training of a secret model, with an ordinary loop: `Engine.make_private`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from pysmpc.errors import BudgetSpentError, PrivacyError
from pysmpc.ops.noise import gaussian_noise, with_bits
from pysmpc.privacy.accountant import Accountant, noise_multiplier_for
from pysmpc.privacy.clipping import Taps, factors
from pysmpc.privacy.loaders import SAMPLINGS, PrivateLoader
from pysmpc.tensor.secret import SecretTensor

Model = TypeVar("Model", bound=nn.Module)
Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)

BITS = 16  # fractional bits of summed gradients and noise, in units of the clipping norm
_PRIVATE = "made_private_by"  # of a gradient that was clipped and noised: the mark of the engine that did
CLIPPING_ERROR = 2.0**-10  # by which an example's gradient may exceed the clipping norm


def sensitivity(parameters: int) -> float:
    """The most that one example changes the sum of gradients, in clipping norms, as they are computed.

    1, the error of clipping, and a step for each parameter: when the sum is rounded, each number of it may come out a
    step further away.
    """
    return 1 + CLIPPING_ERROR + math.sqrt(parameters) * 2.0**-BITS


class Engine:
    """A budget of differential privacy, and the training that it is for.

    target_epsilon, target_delta: what all steps together stay within; a step that would exceed it raises
    BudgetSpentError before anything is computed.  unit: "example", or "client" for `sy.Federation(privacy=engine)`.
    sampling: one of "given", "epochs", "poisson" (`pysmpc.privacy.loaders.SAMPLINGS`).  noise: "holders", each of whom
    adds full noise of her own, or "provider", which deals it.  accountant: "prv" or "rdp".  colluding: of
    unit="client", how many workers of a sum may work together and take their parts of the noise away; 1, as each worker
    sees the model and knows her own part, unless you say otherwise.

    >>> engine = sy.privacy.Engine(target_epsilon=3, target_delta=1e-5, sampling="epochs")
    >>> model, optimizer, loader = engine.make_private(model, optimizer, loader, max_grad_norm=1.0, epochs=10)
    """

    def __init__(
        self,
        *,
        target_epsilon: float,
        target_delta: float,
        unit: str = "example",
        sampling: str = "given",
        noise: str = "holders",
        accountant: str = "prv",
        colluding: int | None = None,
    ) -> None:
        if unit not in ("example", "client"):
            raise ValueError(f"unknown unit {unit!r}; there are 'example' and 'client'")
        if sampling not in SAMPLINGS:
            raise ValueError(f"unknown sampling {sampling!r}; there are {', '.join(map(repr, SAMPLINGS))}")
        if noise not in ("holders", "provider"):
            raise ValueError(f"unknown noise {noise!r}; there are 'holders' and 'provider'")
        if unit == "client" and sampling != "given":
            raise PrivacyError(
                f'sampling={sampling!r} is not for unit="client": who takes part in a round is seen by all, so that '
                'drawing workers amplifies nothing; use sampling="given"'
            )
        if colluding is None:
            colluding = 1 if unit == "client" else 0
        if colluding < 0 or (colluding and unit != "client"):
            raise ValueError(f'colluding is 0 or more, and for unit="client" only, not {colluding}')
        noise_multiplier_for(target_epsilon, target_delta, 1, method="rdp")  # raises for what is no budget
        self.target_epsilon, self.target_delta = float(target_epsilon), float(target_delta)
        self.unit, self.sampling, self.noise = unit, sampling, noise
        self.colluding = int(colluding)
        self.accountant = Accountant(accountant)
        self.noise_multiplier: float | None = None
        self._taps: Taps | None = None
        self._failure = 0.0  # probability that a batch has fewer slots than rows
        self._rate, self._planned = 1.0, 1
        self._safe = 0  # counted steps that are known to be within the budget

    def __repr__(self) -> str:
        return (
            f"Engine(epsilon {self.target_epsilon:g} at delta {self.target_delta:g}; sampling {self.sampling}; noise "
            f"{self.noise}; {self.accountant.steps} counted)"
        )

    # --- what was spent ---

    def epsilon(self) -> float:
        """What was spent so far, at the target delta."""
        return self.accountant.epsilon(self._delta(self.accountant.steps))

    def _delta(self, steps: int) -> float:
        """What is left of the target delta, where owners draw into slots: there may be too few.

        So a training differs with a probability of p from the one that is counted, which costs (1 + e^epsilon) p.
        """
        lost = 0.0
        if self._failure:
            lost = steps * self._failure * (1 + math.exp(min(self.target_epsilon, 100.0)))
        if lost > self.target_delta / 2:
            raise PrivacyError(
                f"delta {self.target_delta:g} is too small for {steps} steps of batches that owners draw at epsilon "
                f"{self.target_epsilon:g}: {lost:.2g} of it goes to batches with more rows than slots"
            )
        return self.target_delta - lost

    def summary(self) -> str:
        """For a line of a log."""
        return f"epsilon {self.epsilon():.3g} of {self.target_epsilon:g} at delta {self.target_delta:g}"

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: what was spent, and the noise."""
        return {"spent": self.accountant.state_dict(), "noise_multiplier": self.noise_multiplier}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; after `make_private`, whose noise is replaced by that of the checkpoint."""
        multiplier = state["noise_multiplier"]
        self.accountant.load_state_dict(state["spent"])
        self.noise_multiplier = multiplier
        self._safe = 0

    # --- training ---

    def make_private(
        self,
        model: Model,
        optimizer: Optimizer,
        loader: Any,
        *,
        max_grad_norm: float = 1.0,
        epochs: float = 1,
        noise_multiplier: float | None = None,
        loss_reduction: str = "mean",
    ) -> tuple[Model, Optimizer, PrivateLoader]:
        """The same model and optimizer, whose steps are private from now on, and a loader for them.

        epochs: passes of the loader that the budget is to last for; from it follows the noise, unless
        noise_multiplier is given (the standard deviation of the noise in sensitivities).  loss_reduction: "mean" or
        "sum", of the loss over the examples of a batch.

        Raises PrivacyError, and changes nothing, where gradients of single examples cannot be clipped or the sampling
        is not what was claimed.
        """
        if self.unit != "example":
            raise PrivacyError(
                'unit="client" is for rounds of sy.Federation(..., privacy=engine); steps protect examples'
            )
        if self._taps is not None:
            raise PrivacyError("this engine has a model already; each budget is for one training")
        if not (max_grad_norm > 0 and math.isfinite(max_grad_norm)):
            raise ValueError(f"max_grad_norm is a positive number, not {max_grad_norm}")
        if loss_reduction not in ("mean", "sum"):
            raise ValueError(f"loss_reduction is 'mean' or 'sum', not {loss_reduction!r}")
        private = PrivateLoader(loader, self.sampling, self._began, self._gave)
        self._check_sampling(model, private)
        _check_parameters(model, optimizer)
        steps = epochs if self.sampling == "epochs" else epochs * len(private)
        planned, self._failure = max(1, math.ceil(steps)), private.failure
        try:
            delta = self._delta(planned)
            if noise_multiplier is None:
                noise_multiplier = noise_multiplier_for(
                    self.target_epsilon, delta, planned, private.rate, self.accountant.method
                )
            Accountant().step(noise_multiplier, private.rate)  # raises for what is none
        except Exception:
            self._failure = 0.0
            raise
        self._taps = Taps(model)
        self.noise_multiplier, self._rate, self._expected = float(noise_multiplier), private.rate, private.expected
        self._norm, self._mean = float(max_grad_norm), loss_reduction == "mean"
        self._planned = planned
        self._given: list[torch.Tensor | None] = []
        self._mark = object()  # that gradients bear which are clipped and noised
        optimizer.register_step_pre_hook(self._before_step)
        return model, optimizer, private

    # --- rounds of a federation ---

    def for_rounds(self, rounds: int, noise_multiplier: float | None = None) -> None:
        """Make the budget last for so many rounds: the noise follows from that, unless it is given.

        `sy.Federation(privacy=engine).fit` calls this with its rounds, where nobody did before.
        """
        if self.unit != "client":
            raise PrivacyError('rounds protect workers: Engine(..., unit="client")')
        planned = max(1, int(rounds))
        if noise_multiplier is None:
            noise_multiplier = noise_multiplier_for(
                self.target_epsilon, self.target_delta, planned, method=self.accountant.method
            )
        Accountant().step(noise_multiplier)  # raises for what is none
        self.noise_multiplier, self._rate, self._planned = float(noise_multiplier), 1.0, planned
        self._safe = 0  # what was checked was of other noise

    def check_round(self) -> None:
        """Raise BudgetSpentError where one more round would exceed the budget."""
        if self.noise_multiplier is None:
            raise PrivacyError("how many rounds the budget is for is not known yet: engine.for_rounds(rounds)")
        self._check_budget()

    def count_round(self) -> None:
        """A sum was opened, or may have been."""
        self._count()

    def _check_sampling(self, model: nn.Module, loader: PrivateLoader) -> None:
        if self.sampling != "poisson" or loader.unseen:
            return
        for x in [*model.parameters(), *loader.tensors()]:
            if isinstance(x, SecretTensor):
                session = x.session
                if session.recorder is not None or session.party.rows != session.party.holders:
                    raise PrivacyError(
                        'sampling="poisson" is refused where parties are on machines of their own: they would be told '
                        "which rows are in a batch, and amplification needs that nobody sees it.  Let owners draw, "
                        'sy.privacy.OwnersLoader, or use sampling="epochs" or "given"'
                    )

    def _began(self) -> None:
        if self.sampling == "epochs":
            self._check_budget()
            self._count()

    def _gave(self, weights: torch.Tensor | None) -> None:
        self._given = [weights]

    def _check_budget(self) -> None:
        """Raise BudgetSpentError where one more step, or pass, would exceed the budget."""
        assert self.noise_multiplier is not None
        done = self.accountant.steps
        if done + 1 > self._safe:
            ahead = max(1, self._planned - done, done // 8)
            while self._after(ahead) > self.target_epsilon:
                if ahead == 1:
                    what = "pass of the loader" if self.sampling == "epochs" else "step"
                    what = "round" if self.unit == "client" else what
                    raise BudgetSpentError(
                        f"another {what} would exceed epsilon {self.target_epsilon:g} at delta "
                        f"{self.target_delta:g}: {self.epsilon():.4g} is spent.  Stop here, or begin a training with "
                        "a larger budget or more noise"
                    )
                ahead //= 2
            self._safe = done + ahead

    def _after(self, ahead: int) -> float:
        """Epsilon after so many more steps."""
        assert self.noise_multiplier is not None
        delta = self._delta(self.accountant.steps + ahead)
        return self.accountant.after(delta, self.noise_multiplier, self._rate, ahead)

    def _count(self) -> None:
        assert self.noise_multiplier is not None
        self.accountant.step(self.noise_multiplier, self._rate)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Put clipped and noised gradients in the place of what a step reads."""
        taps = self._taps
        assert taps is not None
        if not self._given:
            raise PrivacyError("a step needs a batch of the loader that make_private returned, one for each step")
        # also those that were frozen, or not there, in the beginning
        parameters = {*taps.parameters(), *(p for group in optimizer.param_groups for p in group["params"])}
        for p in parameters:
            if p.grad is not None and getattr(p.grad, _PRIVATE, None) is not self._mark:
                raise PrivacyError(
                    "a parameter has a gradient that did not come through its layer, and is not clipped: use "
                    "parameters only by calling their layers in training mode"
                )
        if self.sampling != "epochs":
            self._check_budget()
        with torch.no_grad():
            found = self._privately(taps)
        for p in parameters:  # nothing but these refers to a gradient, so that it goes with zero_grad()
            p.grad = found.get(p)  # None: what was left there of the last step may have been added to

    def _privately(self, taps: Taps) -> dict[Any, torch.Tensor]:
        """Clipped and noised gradients of what was kept."""
        times = (taps.batch if self._mean else 1) / self._norm
        weights = factors(taps.squares(times))
        if self._given[0] is not None:
            weights = weights * self._given[0]
        sums = taps.clipped_sums(weights)
        if self.sampling != "epochs":
            self._count()
        deviation = self._deviation(sums)
        expected = self._expected or taps.batch
        found = {}
        for p, each in sums.items():
            rounded = with_bits(each, BITS)
            noise = gaussian_noise(rounded, deviation, self.noise == "provider")
            found[p] = (rounded + noise) * (self._norm / expected)
            setattr(found[p], _PRIVATE, self._mark)
        self._given = []
        taps.clear()
        return found

    def _deviation(self, sums: Mapping[nn.Parameter, torch.Tensor]) -> float:
        """Standard deviation of the noise of each number, in clipping norms."""
        assert self.noise_multiplier is not None
        return self.noise_multiplier * sensitivity(sum(p.numel() for p in sums))


def _check_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    own = {id(p) for p in model.parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) not in own:
                raise PrivacyError(
                    "the optimizer has a parameter that is none of the model's: encrypt the model first, and make the "
                    "optimizer of its parameters then"
                )
    for name, p in model.named_parameters():
        if p.requires_grad and (not isinstance(p, SecretTensor) or p.session.plain):
            raise PrivacyError(
                f"'{name}' is not secret: encrypt the model first, model = sy.encrypt(model, parties); public models "
                "on public data are what Opacus is for"
            )
