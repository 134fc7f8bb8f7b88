"""The one error of the lab: its text is what the person at the terminal reads."""


class LabError(Exception):
    """Raised when the lab cannot do what was asked; says what happened and what to do."""
