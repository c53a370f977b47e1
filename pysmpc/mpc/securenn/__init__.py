"""Comparison and division as SecureNN has them (protocol="snn")."""
