"""In a bundle, a copy of `apa_deploy/escaping.py` lies here instead: it runs where apa_deploy is not."""

from apa_deploy.escaping import printable

__all__ = ["printable"]
