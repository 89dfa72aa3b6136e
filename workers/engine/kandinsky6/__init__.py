"""The Kandinsky 6 family: picture and sound denoised together by one transformer."""

from workers.engine.kandinsky6.engine import Kandinsky6Engine

__all__ = ["Kandinsky6Engine"]
