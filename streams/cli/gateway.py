"""`parcels gateway`: scanners, sorters and partners in."""

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.options import Bootstrap, Prefix, load_settings

GatewayFolder = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", envvar="PARCELS_GATEWAY_DATA", help="Folder of the spool and the registry."),
]


def gateway(
    data: GatewayFolder = Path("gateway"),
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 for everywhere.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0: any free one.")] = 8080,
    registry: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Registry of devices; devices.json in the folder by default.")
    ] = None,
    insecure_local: Annotated[
        bool, typer.Option("--insecure-local", help="Let everybody in, on 127.0.0.1 only: for trying things out.")
    ] = False,
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM: serve TLS.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR",
            help="A proxy that ends TLS: tokens are taken from it if it says X-Forwarded-Proto: https; repeatable.",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(metavar="N", help="Serve /metrics, /healthz and /readyz on this port.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to serve them on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    waiting_mib: Annotated[
        int, typer.Option(metavar="N", min=1, help="MiB that wait for Kafka at most; then requests get 503.")
    ] = 8192,
    keep_days: Annotated[
        float, typer.Option(metavar="N", min=0, help="Days to keep what is in Kafka, for parcels spool resend.")
    ] = 7.0,
    body_mib: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="MiB that a request has at most.")] = 8,
    head_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long the head of a request may take.")
    ] = 10.0,
    without_spool: Annotated[
        bool, typer.Option("--without-spool", hidden=True, help="Store nothing: for measurements.")
    ] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Take scans and EPCIS 2.0 events by HTTP; they are on disk before the answer, and then go to Kafka.

    Addresses: POST /scans, POST /capture, GET /capture/ID, POST /events, GET /events/ID, /openapi.json,
    /healthz, /readyz. /metrics is on --metrics-port, or on 127.0.0.1 with the rest.
    Kafka may be away: records wait in the spool. SIGTERM lets requests end and writes what waits.

    Examples:
      parcels gateway --insecure-local
      parcels gateway --data /var/lib/parcels/gateway --host 0.0.0.0 --certificate cert.pem --key key.pem
    """
    from streams.capture.http.gateway import RequestLimits
    from streams.capture.http.server import GatewayOptions, run_gateway
    from streams.capture.spool.spool import SpoolLimits
    from streams.observe.gateway_metrics import GatewayMetrics
    from streams.observe.logs import configure_logging
    from streams.observe.status_server import start_status_server

    where = load_settings(bootstrap, prefix)
    configure_logging()
    metrics = GatewayMetrics()
    options = GatewayOptions(
        data,
        host,
        port,
        registry,
        insecure_local,
        certificate,
        key,
        SpoolLimits(waiting_mib << 20, keep_days),
        RequestLimits(max_body_bytes=body_mib << 20, max_inflated_bytes=4 * (body_mib << 20)),
        tuple(trusted_proxy or ()),
        head_seconds,
        without_spool,
    )
    serving = start_status_server(metrics, metrics_port, host=metrics_host) if metrics_port is not None else None
    # On a port of their own they are nowhere else.
    exposition = metrics.exposition if serving is None else None
    try:
        run_gateway(options, where, metrics, exposition, on_ready=lambda address: print(address, flush=True))
    finally:
        if serving is not None:
            serving.close()
