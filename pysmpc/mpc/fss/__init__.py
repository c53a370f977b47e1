"""Comparison by function secret sharing (protocol="fss")."""
