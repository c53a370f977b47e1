"""torch.optim.LBFGS: it opens what it decides by, and nothing else, where that is asked for by name."""

import threading

import pytest
import torch
from op_checks import SUITE_OPTIONS, encrypted, parties, plain
from torch import nn

import pysmpc as sy


def problem():
    """(Data, targets) of a linear model, and its best weights."""
    x = torch.randn(24, 3, dtype=torch.float64)
    y = x @ torch.randn(3, 1, dtype=torch.float64) + 0.1 * torch.randn(24, 1)
    return x, y, torch.linalg.lstsq(x, y).solution


def fitted(x, y, weights, seen=None, **options):
    """The weights, and the loss before, after a step of LBFGS."""
    w = nn.Parameter(weights)
    optimizer = torch.optim.LBFGS([w], max_iter=12, **options)

    def closure():
        optimizer.zero_grad()
        loss = ((x @ w - y) ** 2).mean()
        loss.backward()
        if seen is not None:
            seen.append((loss, w.grad, (x @ w).sum()))
        return loss

    return w, optimizer.step(closure).detach()


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("suite", [None, "mac"])
def test_it_finds_what_plain_torch_finds(search, suite):
    x, y, best = problem()
    options = SUITE_OPTIONS.get(suite, {})
    secret = [encrypted(each, **options) for each in (x, y, torch.zeros(3, 1))]
    lr = 1 if search else 0.5
    seen = []
    with sy.opened_line_search():
        w, loss = fitted(*secret, seen, line_search_fn=search, lr=lr)
    twin, expected = fitted(x, y, torch.zeros(3, 1, dtype=torch.float64), line_search_fn=search, lr=lr)
    assert not isinstance(loss, sy.SecretTensor)
    assert abs(float(loss) - float(expected)) < 2.0**-10
    assert float((plain(w) - twin.detach()).abs().max()) < 2.0**-7
    assert float((plain(w) - best).abs().max()) < 2.0**-6
    # what the closure computes stays secret, numbers too
    assert all(isinstance(each, sy.SecretTensor) for found in seen for each in found)


def test_what_is_opened():
    """Numbers, one at a time."""
    x, y, _ = problem()
    secret = [encrypted(each) for each in (x, y, torch.zeros(3, 1))]
    with sy.ledger() as kept, sy.opened_line_search():
        fitted(*secret)
    assert len(kept.revealed) > 12
    assert all(opening.words == 1 for opening in kept.revealed)


def test_it_must_be_asked_for():
    x, y, _ = problem()
    secret = [encrypted(each) for each in (x, y, torch.zeros(3, 1))]
    before = parties().stats.copy()
    with pytest.raises(NotImplementedError, match=r"LBFGS.*with sy\.opened_line_search\(\)"):
        fitted(*secret)
    assert (parties().stats - before).cost.rounds == 0
    with sy.opened_line_search(), sy.opened_line_search():
        pass
    with pytest.raises(KeyError), sy.opened_line_search():
        raise KeyError
    with pytest.raises(NotImplementedError, match="LBFGS"):
        fitted(*secret)


def test_it_is_of_one_thread():
    x, y, _ = problem()
    secret = [encrypted(each) for each in (x, y, torch.zeros(3, 1))]
    caught = []

    def other():
        try:
            fitted(*secret)
        except NotImplementedError as error:
            caught.append(error)

    with sy.opened_line_search():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_an_error_in_the_closure_ends_it():
    w = nn.Parameter(encrypted(torch.zeros(3)))
    optimizer = torch.optim.LBFGS([w])

    def closure():
        raise KeyError

    with sy.opened_line_search(), pytest.raises(KeyError):
        optimizer.step(closure)
    assert isinstance(w.detach().sum(), sy.SecretTensor)


def test_plain_parameters_are_as_ever():
    x, y, best = problem()
    w, _ = fitted(x, y, torch.zeros(3, 1, dtype=torch.float64), line_search_fn="strong_wolfe")
    assert float((w.detach() - best).abs().max()) < 1e-4
