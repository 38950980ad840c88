"""`parcels id`: identify and check the numbers of parcels and containers."""

import json as jsonlib
from dataclasses import asdict
from typing import Annotated

import typer

from streams.cli.options import EXIT_DIFFERENCES, Json


def id(  # noqa: A001 - the name of the command
    values: Annotated[
        list[str], typer.Argument(metavar="VALUE...", help="Numbers to identify; the result is one line for each.")
    ],
    json: Json = False,
) -> None:
    """Identify the number of a parcel or a container, and check it.

    Use it when you do not know what a number is, or whether it was read correctly. It prints the number in the form in
    which parcel_id and container_id hold it, the scheme, and the result of the check digit. It knows S10 and S9 of the
    UPU, air waybills and unit load devices of IATA, and the keys of GS1 as digits, EPC URNs and Digital Links.

    Exit code 1: a number is not valid.

    Examples:
      parcels id RB123456785GB
      parcels id urn:epc:id:sscc:0614141.1234567890 --json
      parcels id 020-12345675 AKE12345XX
    """
    from streams.domain.identifiers import identify

    identifiers = [identify(value) for value in values]
    for identifier in identifiers:
        if json:
            print(jsonlib.dumps(asdict(identifier)))
        elif identifier.valid:
            print(f"{identifier.canonical}  {identifier.scheme}: {identifier.why}")
        else:
            print(f"{identifier.value}  {identifier.scheme}, not valid: {identifier.why}")
    if not all(identifier.valid for identifier in identifiers):
        raise typer.Exit(EXIT_DIFFERENCES)
