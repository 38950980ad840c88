"""Who sends: the principal of a request, as far as records are concerned."""

from collections.abc import Callable
from dataclasses import dataclass

LocationPredicate = Callable[[str, str], bool]
NamePredicate = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends, as far as records are concerned. An empty name is nobody in particular."""

    name: str
    is_authorized_for: LocationPredicate
    may_act_as: NamePredicate = lambda _: True
    # The clock of the log is no scanner's business; only where everybody is let in may it come this way.
    may_send_ticks: bool = False
