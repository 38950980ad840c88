"""`parcels devices`: the registry of devices and partners that may send to a gateway."""

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
    help="Register the devices and partners that may send to a gateway. A running gateway applies a change at once.",
)

RegistryFile = Annotated[
    Path | None,
    typer.Option("--registry", metavar="FILE", help="Registry of devices; default: devices.json in the folder."),
]


@app.command()
def add(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the device, and keyid of its signatures. It may also send as NAME/…"
        ),
    ],
    site: Annotated[
        list[str], typer.Option(metavar="CODE", help="Site of which it may send records; * for all. Repeatable.")
    ],
    station: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Station of which it may send records; default: all. Repeatable."),
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option(metavar="BASE64", help="Ed25519 public key of the device; default: create a new key pair."),
    ] = None,
    token: Annotated[bool, typer.Option("--token", help="Create a bearer token instead of a key pair.")] = False,
    rate: Annotated[float, typer.Option(metavar="N", min=0.1, help="Records that it may send, a second.")] = 1000.0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give an existing device new rights and a new secret.")
    ] = False,
    data: GatewayFolder = Path("gateway"),
    registry: RegistryFile = None,
    as_json: Json = False,
) -> None:
    """Register a device or a partner, and print its secret.

    The secret (private key or token) is printed once and stored nowhere: keep it. With --site '*' and no --station the
    device may send records of all sites and stations: it may then also send advices, send on behalf of other devices,
    and declare records of others wrong.

    Examples:
      parcels devices add LGG/SRT-07/1 --site LGG --station SRT-07
      parcels devices add acme --site '*' --token --rate 50
    """
    from streams.capture.auth import devices

    if token and public_key is not None:
        raise Misconfigured("--token and --public-key cannot be combined: give one of them")
    result: dict[str, str] = {"name": name}
    key = digest = ""
    if token:
        result["token"], digest = devices.generate_token()
    elif public_key is None:
        result["private_key"], key = devices.generate_key_pair()
        result["public_key"] = key
    else:
        result["public_key"] = key = devices.parse_public_key(public_key)
    device = devices.Device(
        name, tuple(site), tuple(station or [devices.WILDCARD]), rate, key, digest, added=devices.utc_timestamp()
    )
    _open_registry(data, registry).add(device, replace=replace)
    if as_json:
        print(json.dumps(result))
        return
    for key_name, value in result.items():
        print(f"{key_name}: {value}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the device.")],
    data: GatewayFolder = Path("gateway"),
    registry: RegistryFile = None,
) -> None:
    """Revoke the rights of a device, from its next request on.

    Examples:
      parcels devices revoke LGG/SRT-07/1
    """
    _open_registry(data, registry).revoke(name)
    print(f"{name} is revoked")


@app.command("list")
def list_(data: GatewayFolder = Path("gateway"), registry: RegistryFile = None, as_json: Json = False) -> None:
    """List the devices, with their sites, stations and rates.

    Examples:
      parcels devices list --json
    """
    for device in _open_registry(data, registry).all_devices():
        credential = "revoked" if device.revoked else "token" if device.token_sha256 else "key"
        row = {
            "name": device.name,
            "credential": credential,
            "sites": list(device.sites),
            "stations": list(device.stations),
            "rate": device.rate,
            "added": device.added,
        }
        if as_json:
            print(json.dumps(row))
        else:
            print(
                f"{device.name}  {credential}  {','.join(device.sites)}  {','.join(device.stations)}  {device.rate:g}/s"
            )


def _open_registry(data: Path, registry: Path | None) -> "DeviceRegistry":
    from streams.capture.auth.devices import DeviceRegistry
    from streams.capture.http.server import REGISTRY_FILE

    return DeviceRegistry(registry or data / REGISTRY_FILE)
