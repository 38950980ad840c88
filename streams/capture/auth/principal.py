"""Who sends: the principal of a request, as far as records are concerned."""

from collections.abc import Callable
from dataclasses import dataclass

Scope = Callable[[str, str], bool]
Names = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends, as far as records are concerned. An empty name is nobody in particular."""

    name: str
    may_speak_for: Scope
    may_speak_as: Names = lambda _: True
    # The clock of the log is no scanner's business; only where everybody is let in may it come this way.
    may_tick: bool = False
