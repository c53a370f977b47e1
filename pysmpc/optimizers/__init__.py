"""The optimizers of torch.optim on secret parameters: unmodified, but for the arithmetic of their steps.

SGD and ASGD are torch's own operations.  What divides by a root of squared gradients would lose them at the
fractional bits of a parameter.  So the functions that torch's optimizers call for their arithmetic, such as
`torch.optim.adam.adam`, take the rules of `rules` where parameters are secret, which keep moments at finer scales.
`refusals` names the optimizers and settings that have no such rule, `line_search` opens what LBFGS decides by.
Imported for its effect by `pysmpc`; start reading at `rules`.
"""

from pysmpc.optimizers import line_search, refusals
from pysmpc.optimizers.hooks import install

install()
line_search.install()
refusals.install()
