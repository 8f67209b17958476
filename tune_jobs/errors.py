"""Errors of a study; all derive from edgenes.errors.EdgeNESError."""

from edgenes.errors import EdgeNESError


class StudyError(EdgeNESError):
    """A study cannot be opened, resumed or finished as asked."""


class Interrupted(StudyError):
    """The user or the scheduler stopped the study; everything finished is stored."""
