"""Model, measure, undo and evaluate the degradation of medical images taken in poor light."""

__version__ = "0.1.0"
