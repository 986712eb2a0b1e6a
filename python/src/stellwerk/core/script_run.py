"""The place where older code finds the class of submitted runs."""

from .run import Run, ScriptRun

__all__ = ["Run", "ScriptRun"]
