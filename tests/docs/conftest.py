from tests.standin.machine import machine

__all__ = ["machine"]
