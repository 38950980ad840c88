"""`parcels id`: what an identifier is."""

import json as jsonlib
from dataclasses import asdict
from typing import Annotated

import typer

from streams.cli.options import EXIT_DIFFERENCES, Json


def id(  # noqa: A001 - the name of the command
    values: Annotated[list[str], typer.Argument(metavar="VALUE...", help="Identifiers, one result a line.")],
    json: Json = False,
) -> None:
    """Say what an identifier is, whether it can be right, and how it is written.

    Knows UPU S10 and S9, air waybills and unit load devices of IATA, and the keys of GS1 as digits, EPC URNs and
    Digital Links. Exit code 1 when one of them is not valid.

    Examples:
      parcels id RB123456785GB
      parcels id urn:epc:id:sscc:0614141.1234567890 --json
      parcels id 020-12345675 AKE12345XX
    """
    from streams.domain.identifiers import identify

    found = [identify(value) for value in values]
    for each in found:
        if json:
            print(jsonlib.dumps(asdict(each)))
        elif each.valid:
            print(f"{each.canonical}  {each.scheme}: {each.why}")
        else:
            print(f"{each.value}  {each.scheme}, not valid: {each.why}")
    if not all(each.valid for each in found):
        raise typer.Exit(EXIT_DIFFERENCES)
