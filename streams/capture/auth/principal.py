"""The principal of a request: the sender, as far as the checks of its records are concerned."""

from collections.abc import Callable
from dataclasses import dataclass

LocationPredicate = Callable[[str, str], bool]
NamePredicate = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Principal:
    """The sender of a request and its rights. The name is empty where the gateway admits everybody."""

    name: str
    # May it send records of this site and station?
    is_authorized_for: LocationPredicate
    # May it send under this device name?
    may_act_as: NamePredicate = lambda _: True
    # Ticks move the hub time. They are accepted here only where the gateway admits everybody.
    may_send_ticks: bool = False
