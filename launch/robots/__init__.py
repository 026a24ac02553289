"""Robots without robots: the twin behind the protocols that arms are spoken to with."""
