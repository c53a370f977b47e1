"""Parties as processes of their own: workers over mutual TLS, and the driver that they compute for."""
