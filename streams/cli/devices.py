"""`parcels devices`: who may send to a gateway."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.gateway import GatewayFolder
from streams.cli.options import Json
from streams.errors import Misconfigured

if TYPE_CHECKING:
    from streams.capture.auth.devices import DeviceRegistry

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Enrol devices and partners at a gateway, and revoke them; a running gateway notices at once.",
)

RegistryFile = Annotated[
    Path | None, typer.Option("--registry", metavar="FILE", help="The registry; devices.json in --data by default.")
]


@app.command()
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name; the keyid of its signatures. It may send as NAME/… too.")
    ],
    site: Annotated[list[str], typer.Option(metavar="CODE", help="A site it may speak for, or *; repeatable.")],
    station: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="A station it may speak for; any when not given.")
    ] = None,
    public_key: Annotated[
        str | None, typer.Option(metavar="BASE64", help="Its Ed25519 public key; a new pair is made when not given.")
    ] = None,
    token: Annotated[bool, typer.Option("--token", help="Make a bearer token instead of a key pair.")] = False,
    rate: Annotated[float, typer.Option(metavar="N", min=0.1, help="Records a second it may send.")] = 1000.0,
    replace: Annotated[bool, typer.Option("--replace", help="Give a known name new rights and new secrets.")] = False,
    data: GatewayFolder = Path("gateway"),
    registry: RegistryFile = None,
    as_json: Json = False,
) -> None:
    """Enrol a device or a partner. Its secret is printed once, and kept nowhere.

    With --site '*' and no --station it speaks for everything: it sends advices, relays for other devices, and declares
    wrong what others said.

    Examples:
      parcels devices add LGG/SRT-07/1 --site LGG --station SRT-07
      parcels devices add acme --site '*' --token --rate 50
    """
    from streams.capture.auth import devices

    if token and public_key is not None:
        raise Misconfigured("--token and --public-key contradict each other: give one of them")
    said: dict[str, str] = {"name": name}
    key = digest = ""
    if token:
        said["token"], digest = devices.generate_token()
    elif public_key is None:
        said["private_key"], key = devices.generate_key_pair()
        said["public_key"] = key
    else:
        said["public_key"] = key = devices.parse_public_key(public_key)
    device = devices.Device(
        name, tuple(site), tuple(station or [devices.WILDCARD]), rate, key, digest, added=devices.utc_timestamp()
    )
    _opened(data, registry).add(device, replace=replace)
    if as_json:
        print(json.dumps(said))
        return
    for what, value in said.items():
        print(f"{what}: {value}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    data: GatewayFolder = Path("gateway"),
    registry: RegistryFile = None,
) -> None:
    """Take a device's rights away, from the next request on.

    Examples:
      parcels devices revoke LGG/SRT-07/1
    """
    _opened(data, registry).revoke(name)
    print(f"{name} may not send any more")


@app.command("list")
def list_(data: GatewayFolder = Path("gateway"), registry: RegistryFile = None, as_json: Json = False) -> None:
    """List who may send, and for which sites and stations.

    Examples:
      parcels devices list --json
    """
    found = _opened(data, registry).all_devices()
    for each in found:
        how = "revoked" if each.revoked else "token" if each.token_sha256 else "key"
        row = {
            "name": each.name,
            "credential": how,
            "sites": list(each.sites),
            "stations": list(each.stations),
            "rate": each.rate,
            "added": each.added,
        }
        if as_json:
            print(json.dumps(row))
        else:
            print(f"{each.name}  {how}  {','.join(each.sites)}  {','.join(each.stations)}  {each.rate:g}/s")


def _opened(data: Path, registry: Path | None) -> "DeviceRegistry":
    from streams.capture.auth.devices import DeviceRegistry
    from streams.capture.http.server import REGISTRY_FILE

    return DeviceRegistry(registry or data / REGISTRY_FILE)
