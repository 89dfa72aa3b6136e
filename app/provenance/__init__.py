"""Marks of films: the watermark, the `AIGC` label, the signed manifest, and the certificate that signs it."""
