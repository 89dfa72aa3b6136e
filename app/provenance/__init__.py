"""Marks of films: the `AIGC` label, the signed manifest, and the certificate that signs it."""
