"""Nonlinear functions: one opening c = x + r, and words that depend on r, which the dealer shares.

After the opening, a function of x = c - r is a linear combination of those words with public factors
that follow from c.  `masked` has the opening, the words and the combination, which every suite
provides; `regions` decides by thresholds where a function is its asymptote; on them stand
`characters` (smooth functions), `exponent` (powers of e) and `normaliser` (logarithms and roots).
Imports nothing above the protocols; start reading at `masked`.
"""
