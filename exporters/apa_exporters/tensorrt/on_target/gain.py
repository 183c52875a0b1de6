"""In a bundle, a copy of `apa_deploy/parity/gain.py` lies here instead: it runs where apa_deploy is not."""

from apa_deploy.parity.gain import check_gains

__all__ = ["check_gains"]
