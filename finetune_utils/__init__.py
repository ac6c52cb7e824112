"""Helpers of the fine-tuning course: each module does one job and says which in its first line."""

__version__ = "0.1.0"
