"""`parcels gateway`: the HTTP server for scanners, sorters and partners."""

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.options import Bootstrap, Prefix, load_settings

GatewayFolder = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="PARCELS_GATEWAY_DATA",
        help="Folder of the gateway: its spool and its registry of devices.",
    ),
]


def gateway(
    data: GatewayFolder = Path("gateway"),
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all interfaces.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0 takes any free port.")] = 8080,
    registry: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Registry of devices; default: devices.json in the folder.")
    ] = None,
    insecure_local: Annotated[
        bool,
        typer.Option(
            "--insecure-local", help="Accept every request without credentials, on 127.0.0.1 only: for tests."
        ),
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain (PEM); with it the gateway serves TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the certificate (PEM).")] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR",
            help="Address of a proxy that ends TLS. Tokens are accepted from it with the header X-Forwarded-Proto: "
            "https. Repeatable.",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(metavar="N", help="Serve /metrics, /healthz and /readyz on a port of their own.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of the metrics port; 0.0.0.0 for all interfaces.")
    ] = "127.0.0.1",
    spool_limit_mib: Annotated[
        int,
        typer.Option(metavar="MIB", min=1, help="Limit of the records that wait for Kafka; beyond it: status 503."),
    ] = 8192,
    spool_retention_days: Annotated[
        float,
        typer.Option(metavar="DAYS", min=0, help='How long to keep what is in Kafka, for "parcels spool resend".'),
    ] = 7.0,
    max_body_mib: Annotated[
        int, typer.Option(metavar="MIB", min=1, max=64, help="Largest body of a request; beyond it: status 413.")
    ] = 8,
    header_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long a client may take to send the headers.")
    ] = 10.0,
    without_spool: Annotated[
        bool, typer.Option("--without-spool", hidden=True, help="Store nothing: for benchmarks.")
    ] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
) -> None:
    """Accept scans and EPCIS 2.0 events by HTTP, and forward them to Kafka.

    Use it where scanners, sorters and partners send their data without a Kafka client. Every record is on disk, in the
    spool, before the response is sent. While Kafka cannot be reached, records wait in the spool. SIGTERM finishes the
    open requests and forwards the waiting records.

    Routes: POST /scans, POST /capture, GET /capture/ID, POST /events, GET /events/ID, /openapi.json, /healthz, /readyz.
    /metrics is on --metrics-port; without that option it is with the other routes, for clients on 127.0.0.1.

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

    settings = load_settings(bootstrap, prefix)
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
        SpoolLimits(spool_limit_mib << 20, spool_retention_days),
        RequestLimits(max_body_bytes=max_body_mib << 20, max_inflated_bytes=4 * (max_body_mib << 20)),
        tuple(trusted_proxy or ()),
        header_timeout,
        without_spool,
    )
    status_server = start_status_server(metrics, metrics_port, host=metrics_host) if metrics_port is not None else None
    # With a port of their own, the metrics are on no other port.
    exposition = metrics.exposition if status_server is None else None
    try:
        run_gateway(options, settings, metrics, exposition, on_ready=lambda address: print(address, flush=True))
    finally:
        if status_server is not None:
            status_server.close()
